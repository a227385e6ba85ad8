"""A worker process of a sweep: one job after the other, with everything imported once."""

import signal
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from distributed import Worker
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from microgpt.build import resolve
from microgpt.run.folder import RunFolder
from microgpt.run.record import Busy
from microgpt.run.sweep import sweep_folder
from microgpt.sweep.compose import Composer
from microgpt.sweep.job import interrupt, record_failure
from microgpt.terminal import RUN_FAILED

LIVES = 3  # processes that may die of one job before it counts as failed
# A file in the folder of a job under way, with the launch in a line for each time that it began. Dask
# counts too, but for all jobs that were waiting at a worker that died.
BEGUN = ".begun"
one_job = Lock()  # Hydra's state and the current folder are the process's: other threads wait
current: list[str] = []  # the launch of the job under way
stopped: set[str] = set()  # the launches that were interrupted
composers: dict[str, Composer] = {}  # that of the launch under way


def dask_setup(worker: Worker) -> None:
    """Called by Dask in each worker of our own clusters: Ctrl-C is for the launcher, which asks us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Task:
    """One job, as a worker gets it."""

    context: HydraContext
    config: DictConfig  # of the whole sweep
    function: TaskFunction
    state: Any  # Hydra's singletons
    words: list[str]  # the overrides of this job
    number: int
    launch: str  # an id that all jobs share which were handed out together
    place: str  # where the command was given: relative paths begin there

    def compose(self) -> DictConfig:
        """The job's configuration."""
        Singleton.set_state(self.state)
        setup_globals()
        if self.launch not in composers:
            composers.clear()
            loader = self.context.config_loader
            composers[self.launch] = Composer(loader, self.config, with_hydra=True)
        config = composers[self.launch](self.words)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = self.number
        return config


def folder(config: DictConfig) -> Path:
    """The folder of a job's run."""
    return Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)


def perform(task: Task) -> int | None:
    """Do a job; returns its exit code, or None if the sweep was interrupted."""
    shared = Path(task.place).is_dir()  # machines have the outputs in common, perhaps no more
    with one_job, chdir(task.place if shared else "."):
        current[:] = [task.launch]
        return None if task.launch in stopped else _perform(task)


def _perform(task: Task) -> int | None:
    config = task.compose()
    begun = folder(config) / BEGUN
    if begun.exists() and begun.read_text().split().count(task.launch) >= LIVES:
        lost(task, f"its process was killed, {LIVES} times")
        begun.unlink()
        return RUN_FAILED
    begun.parent.mkdir(parents=True, exist_ok=True)
    with begun.open("a") as file:
        file.write(f"{task.launch}\n")
    done = run_job(
        hydra_context=task.context,
        task_function=task.function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    begun.unlink(missing_ok=True)
    code: int | None = done.return_value
    return code


def stop(launch: str) -> None:
    """Begin no job of a launch any more, and end those under way."""
    stopped.add(launch)
    if current == [launch]:
        interrupt()


def lost(task: Task, reason: str) -> None:
    """A job whose process died: its run has failed."""
    cfg = task.compose()
    run = RunFolder(folder(cfg))
    with open_dict(cfg):
        del cfg["hydra"]  # as in a job; parts of it are only given there
    with suppress(Busy), run.locked(1.0):  # it was thought dead, and is not
        sweep = sweep_folder(Path(cfg.paths.outputs).absolute(), cfg.sweep)
        record_failure(run, sweep, resolve(cfg), reason)
