"""A sweep that gets more jobs as it goes, until somebody has seen enough."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from microgpt.build import part
from microgpt.run.record import FAILED, FINISHED, STOPPED, Busy
from microgpt.run.sweep import SweepFolder, identity_of, key, sweep_folder
from microgpt.run.unborn import sweep_up
from microgpt.sweep.conduct import begin, end, is_finished, join
from microgpt.sweep.job import Assignment
from microgpt.sweep.known import given, known_here
from microgpt.sweep.machine import AUTO, memory_limit, worker_count
from microgpt.sweep.plan import Job
from microgpt.sweep.pool import Pool
from microgpt.sweep.watch import standing
from microgpt.sweep.worker import Task
from microgpt.terminal import ConfigError, complain
from microgpt.tracking import SendingProcess


class JobFailed(Exception):
    """A job of the sweep failed; the message names it and the reason."""


class Growing:
    """A sweep whose jobs are trained in batches by the same workers."""

    def __init__(self, sweep: SweepFolder, config: Mapping[str, Any], workers: int | None) -> None:
        self.sweep = sweep
        self.count = worker_count(workers)
        self.pool: Pool | None = None
        self.known = known_here(sweep.path.name, config)
        self.look: str | None = None  # where the sweep is shown, once it has ended

    def train(self, jobs: Sequence[Job]) -> None:
        """Brings these jobs to an end, earlier ones among them; those that are finished are skipped.

        Raises JobFailed, and KeyboardInterrupt if it was interrupted.
        """
        self.sweep.update(jobs=[job.facts for job in jobs])
        todo = [job for job in jobs if not is_finished(self.sweep.run(job.facts))]
        join(self.sweep, {job.run for job in jobs} - {job.run for job in todo})
        if todo and None in self._run(todo):
            raise KeyboardInterrupt
        for job in todo:
            now = standing(self.sweep.run(job.facts))
            if now.status != FINISHED:
                raise JobFailed(f"{job.name} failed: {now.reason or f'it is {now.status}'}")

    def _run(self, todo: Sequence[Job]) -> list[int | None]:
        if self.pool is None:
            workers = min(self.count, len(todo))
            self.pool = Pool(workers, memory_limit(AUTO, workers))
        launch, sender, name = uuid4().hex, SendingProcess.address(), self.sweep.path.name
        jobs = [Assignment(name, job.facts, given(job.config, self.known)) for job in todo]
        tasks = [
            Task(job, number, launch, os.getcwd(), {}, sender, None)
            for number, job in enumerate(jobs)
        ]
        return self.pool.run(tasks, [], more=True)

    def metrics(self, job: Job) -> Mapping[str, float]:
        """The last metrics of a finished job."""
        return self.sweep.run(job.facts).metrics()[-1]

    def close(self) -> None:
        """Ends the workers."""
        if self.pool:
            self.pool.close()


@contextmanager
def growing(
    facts: Mapping[str, Any], name: str, jobs: Sequence[Job], workers: int | None
) -> Iterator[Growing]:
    """A sweep for the time of the block. Raises ConfigError.

    facts    what is known of it, as for `conduct`
    name     what tells it from another sweep that begins with the same jobs
    jobs     the first ones
    workers  processes; None is one per core
    """
    config = facts["config"]
    outputs = Path(config["paths"]["outputs"])
    identity = identity_of([job.facts for job in jobs], name)
    sweep = sweep_folder(outputs, key(**identity))
    tracking = part(config, "tracking")  # first: what it refuses leaves no folder behind
    sweep_up(outputs)
    try:
        with sweep.locked():
            begin(sweep, **identity, **facts, jobs=[job.facts for job in jobs])
            tracking.start(sweep, outputs)
            grown, status = Growing(sweep, config, workers), FAILED
            try:
                yield grown
                status = FINISHED
            except KeyboardInterrupt:
                status = STOPPED
                raise
            finally:
                if grown.pool and status == FINISHED:
                    grown.pool.end()
                grown.close()
                problem, grown.look = end(sweep, tracking, status)
                if problem:
                    complain(f"not all is in MLflow yet ({problem}); later: microgpt sync")
    except Busy as error:
        raise ConfigError(f"this sweep is under way: {error}") from error
