"""The launcher of sweeps: the jobs in worker processes."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from microgpt.sweep.job import Assignment
    from microgpt.sweep.pool import Pool


class ProcessLauncher(Launcher):
    """Trains the jobs of a sweep in processes that may die without harm to the others."""

    def __init__(self, address: str | None, workers: int | None, memory_limit: str) -> None:
        self.address, self.workers, self.memory_limit = address, workers, memory_limit
        self.assignments: Sequence[Assignment] = ()
        self.pool: Pool | None = None
        self.signals: list[int] = []  # that interrupted it

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`. Raises ConfigError."""
        from microgpt.sweep.machine import memory_limit, worker_count  # late: `--help` needs none

        self.count = worker_count(self.workers)
        self.limit = memory_limit(self.memory_limit, self.count)
        self.config = config
        callbacks = hydra_context.callbacks
        self.callbacks = callbacks if callbacks.callbacks else None

    def assign(self, assignments: Sequence["Assignment"]) -> None:
        """The jobs of the next `launch`: the sweeper has composed them, and no worker needs to again."""
        self.assignments = assignments

    def prepare(self, jobs: int) -> None:
        """Lets workers for so many jobs come up, while the sweeper is busy with other things."""
        if self.address is None:
            self._workers(jobs)

    def _workers(self, jobs: int) -> "Pool":
        from microgpt.sweep.pool import Pool

        if self.pool is None:
            self.pool = Pool(min(self.count, jobs), self.limit)
        return self.pool

    def release(self) -> None:
        """Ends workers that nobody needs any more."""
        if self.pool:
            self.pool.close()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train; the return value of a job is its exit code, None if it was interrupted."""
        from microgpt.sweep.worker import Task
        from microgpt.tracking import SendingProcess

        environment = dict(self.config.hydra.job.env_set)
        shared = uuid4().hex, os.getcwd(), environment, SendingProcess.address(), self.callbacks
        tasks = [
            Task(job, number, *shared)
            for number, job in enumerate(self.assignments, initial_job_idx)
        ]
        if self.address is None:
            codes = self._workers(len(tasks)).run(tasks, self.signals)
        else:
            from microgpt.sweep.cluster import run_on  # late: Dask takes its time

            codes = run_on(self.address, tasks, self.signals)
        return [
            JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=code)
            for words, code in zip(job_overrides, codes, strict=True)
        ]
