"""What a worker process does: one task after the other, with everything imported once."""

import gc
from collections.abc import Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from typing import Any, Protocol

from hydra.core.utils import env_override, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from microgpt.run.reading import BadRecord
from microgpt.run.record import Busy
from microgpt.sweep.job import Assignment, do, interrupt, record_failure
from microgpt.terminal import RUN_FAILED, complain
from microgpt.tracking import SendingProcess

STOPPING = "stopping after the steps under way; once more Ctrl-C ends at once"
one_job = Lock()  # the current folder is the process's: other threads wait
current: list["Work"] = []  # the one under way
stopped: set[str] = set()  # the launches that were interrupted
# Set when what stays after the first job is frozen: to count it takes as long as a look.
lasting = Flag()


class Work(Protocol):
    """What a worker can be given; it gets a copy, which is gone when it is over."""

    @property
    def name(self) -> str:
        """What it is called, to a user."""

    @property
    def number(self) -> int:
        """Its index in the sweep."""

    @property
    def launch(self) -> str:
        """An id that all share which were handed out together."""

    @property
    def place(self) -> str:
        """Where the command was given: relative paths begin there."""

    @property
    def stoppable(self) -> bool:
        """Whether an interrupt lets it keep its state, so that its end is worth waiting for."""

    def do(self) -> Any:
        """Does it; returns what the launcher is told."""

    def lost(self, reason: str) -> Any:
        """What the launcher is told instead, if the process died."""


@dataclass(frozen=True)
class Task:
    """A run of `microgpt train`, as plain values. It returns its exit code, None if it was interrupted."""

    job: Assignment
    number: int
    launch: str
    place: str
    environment: Mapping[str, str]  # `hydra.job.env_set`
    sender: str | None  # the address of the process that sends for the launcher, on its machine
    # Hydra's part, where callbacks are configured
    told: tuple[HydraContext, DictConfig] | None
    stoppable = True

    @property
    def name(self) -> str:
        """`n_head=4 seed=1`."""
        return str(self.job.facts["name"])

    def do(self) -> int | None:
        """Do the job."""
        SendingProcess.offer(self.sender)
        if self.told is not None:
            return self._told(*self.told)
        with env_override(dict(self.environment)):
            return self._do()

    def _do(self) -> int | None:
        return do(self.job, lambda: self.launch in stopped)

    def _told(self, context: HydraContext, hydra: DictConfig) -> int | None:
        """As `do`, by Hydra, which tells its callbacks."""
        config = OmegaConf.create({**self.job.config, "hydra": hydra})
        with open_dict(config), read_write(config):
            config.hydra.job.id = config.hydra.job.num = self.number
            config.hydra.overrides.task = list(self.job.facts["overrides"])
            config.hydra.sweep.dir = str(self.job.outputs)
            config.hydra.sweep.subdir = f"runs/{self.job.facts['run']}"
        place = "hydra.sweep.dir", "hydra.sweep.subdir"
        code: int | None = run_job(lambda _: self._do(), config, *place, context).return_value
        return code

    def lost(self, reason: str) -> int:
        """Record that the run has failed, since its process died."""
        try:
            with suppress(Busy, BadRecord), self.job.run.locked(1.0):  # thought dead, and is not
                record_failure(self.job, reason)
        except OSError as error:  # a full disk: the other jobs go on
            complain(f"{self.job.run.path}: cannot be recorded as failed ({error})")
        return RUN_FAILED


def perform(task: Work) -> Any:
    """Do a task; returns what it does, or None if the sweep was interrupted before."""
    shared = Path(task.place).is_dir()  # machines have the outputs in common, perhaps no more
    with one_job, chdir(task.place if shared else "."):
        current[:] = [task]
        try:
            return None if task.launch in stopped else task.do()
        finally:
            current.clear()
            tidy()


def tidy() -> None:
    """Let go of what a job leaves behind, which has cycles; and look at what stays only once."""
    gc.collect()
    if not lasting.is_set():
        gc.freeze()
        lasting.set()


def stop(launch: str) -> int | None:
    """Begin no job of a launch any more, and end the one under way, whose number is returned."""
    stopped.add(launch)
    under_way = [task.number for task in current if task.launch == launch]
    if under_way:
        interrupt()
    return under_way[0] if under_way else None
