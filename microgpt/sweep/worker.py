"""A worker process of a sweep: one job after the other, with everything imported once."""

import gc
import logging
import signal
from collections.abc import Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from distributed import Worker
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, env_override
from omegaconf import OmegaConf

from microgpt.run.reading import BadRecord
from microgpt.run.record import Busy
from microgpt.sweep.job import Assignment, do, interrupt, record_failure
from microgpt.terminal import RUN_FAILED
from microgpt.tracking import SendingProcess

LIVES = 3  # processes that may die of one job before it counts as failed
# A file in the folder of a job under way, with the launch in a line for each time that it began. Dask
# counts too, but for all jobs that were waiting at a worker that died.
BEGUN = ".begun"
one_job = Lock()  # the current folder is the process's: other threads wait
current: list[str] = []  # the launch of the job under way
stopped: set[str] = set()  # the launches that were interrupted


def dask_setup(worker: Worker) -> None:
    """Called by Dask in each worker of our own clusters: Ctrl-C is for the launcher, which asks us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Task:
    """One job, as a worker gets it: plain values, which are gone when it is over."""

    job: Assignment
    number: int
    launch: str  # an id that all jobs share which were handed out together
    place: str  # where the command was given: relative paths begin there
    environment: Mapping[str, str]  # `hydra.job.env_set`
    sender: str | None  # the address of the process that sends for the launcher, on its machine
    callbacks: Callbacks | None  # of Hydra, where any are configured


def perform(task: Task) -> int | None:
    """Do a job; returns its exit code, or None if the sweep was interrupted."""
    shared = Path(task.place).is_dir()  # machines have the outputs in common, perhaps no more
    SendingProcess.offer(task.sender)
    with one_job, chdir(task.place if shared else "."), env_override(dict(task.environment)):
        current[:] = [task.launch]
        code = None if task.launch in stopped else _perform(task)
        tidy()
        return code


def tidy() -> None:
    """Let go of what a job leaves behind, which has cycles; and look at what stays only once."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()


def _perform(task: Task) -> int | None:
    begun = task.job.run.path / BEGUN
    if begun.exists() and begun.read_text().split().count(task.launch) >= LIVES:
        lost(task, f"its process was killed, {LIVES} times")
        begun.unlink()
        return RUN_FAILED
    begun.parent.mkdir(parents=True, exist_ok=True)
    with begun.open("a") as file:
        file.write(f"{task.launch}\n")
    code = do(task.job) if task.callbacks is None else _told(task, task.callbacks)
    begun.unlink(missing_ok=True)
    return code


def _told(task: Task, callbacks: Callbacks) -> int | None:
    """Do a job between what `hydra.callbacks` want to be told of it."""
    config = OmegaConf.create(task.job.config)
    done = JobReturn(cfg=config, working_dir=str(Path.cwd()), task_name=task.job.facts["name"])
    callbacks.on_job_start(config=config, task_function=do)
    done.return_value = do(task.job)
    done.status = JobStatus.COMPLETED
    callbacks.on_job_end(config=config, job_return=done)
    return done.return_value  # type: ignore[no-any-return]


def stop(launch: str) -> None:
    """Begin no job of a launch any more, and end those under way."""
    stopped.add(launch)
    if current == [launch]:
        interrupt()


def lost(task: Task, reason: str) -> None:
    """A job whose process died: its run has failed."""
    with suppress(Busy, BadRecord), task.job.run.locked(1.0):  # thought dead, and is not
        record_failure(task.job, reason)
