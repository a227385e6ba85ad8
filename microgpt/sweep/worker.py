"""What a worker process of a sweep does: one job after the other, with everything imported once."""

import gc
from collections.abc import Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, env_override
from omegaconf import OmegaConf

from microgpt.run.reading import BadRecord
from microgpt.run.record import Busy
from microgpt.sweep.job import Assignment, do, interrupt, record_failure
from microgpt.terminal import complain
from microgpt.tracking import SendingProcess

STOPPING = "stopping after the steps under way; once more Ctrl-C ends at once"
one_job = Lock()  # the current folder is the process's: other threads wait
current: list["Task"] = []  # the one under way
stopped: set[str] = set()  # the launches that were interrupted


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
        current[:] = [task]
        try:
            return None if task.launch in stopped else _perform(task)
        finally:
            current.clear()
            tidy()


def tidy() -> None:
    """Let go of what a job leaves behind, which has cycles; and look at what stays only once."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()


def _perform(task: Task) -> int | None:
    return _do(task) if task.callbacks is None else _told(task, task.callbacks)


def _do(task: Task) -> int | None:
    return do(task.job, lambda: task.launch in stopped)


def _told(task: Task, callbacks: Callbacks) -> int | None:
    """Do a job between what `hydra.callbacks` want to be told of it."""
    config = OmegaConf.create(task.job.config)
    done = JobReturn(cfg=config, working_dir=str(Path.cwd()), task_name=task.job.facts["name"])
    callbacks.on_job_start(config=config, task_function=do)
    done.return_value = _do(task)
    done.status = JobStatus.COMPLETED
    callbacks.on_job_end(config=config, job_return=done)
    return done.return_value  # type: ignore[no-any-return]


def stop(launch: str) -> int | None:
    """Begin no job of a launch any more, and end the one under way, whose number is returned."""
    stopped.add(launch)
    under_way = [task.number for task in current if task.launch == launch]
    if under_way:
        interrupt()
    return under_way[0] if under_way else None


def lost(task: Task, reason: str) -> None:
    """A job whose process died: its run has failed."""
    try:
        with suppress(Busy, BadRecord), task.job.run.locked(1.0):  # thought dead, and is not
            record_failure(task.job, reason)
    except OSError as error:  # a full disk: the other jobs go on
        complain(f"{task.job.run.path}: cannot be recorded as failed ({error})")
