"""The launcher of sweeps, ours and those of any Hydra application: the jobs in worker processes."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from microgpt.sweep.job import Assignment
    from microgpt.sweep.pool import Pool
    from microgpt.sweep.worker import Work

# `hydra/launcher=processes`
#   address       a Dask scheduler, tls://HOST:8786, whose workers can access paths.outputs; None starts
#                 processes on this machine
#   workers       worker processes on this machine; None is one per core
#   memory_limit  per worker, such as 2GB; a worker above it is replaced and its job retried; auto shares
#                 out the machine's memory
CONFIG = {
    "_target_": f"{__name__}.ProcessLauncher",
    "address": None,
    "workers": None,
    "memory_limit": "auto",
}
ConfigStore.instance().store(
    name="processes", group="hydra/launcher", node=CONFIG, provider="microgpt"
)


class ProcessLauncher(Launcher):
    """Runs the jobs of a sweep in processes that may die without harm to the others."""

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
        self.config, self.context, self.function = config, hydra_context, task_function

    def assign(self, assignments: Sequence["Assignment"]) -> None:
        """The jobs of the next `launch`: our sweeper has composed them, and no worker needs to again."""
        self.assignments = assignments

    def prepare(self, jobs: int) -> None:
        """Lets workers for so many jobs come up, while the sweeper is busy with other things."""
        if self.address is None:
            self._workers(jobs)

    def _workers(self, jobs: int) -> "Pool":
        from microgpt.sweep.pool import Pool

        if self.pool is None:
            self.pool = Pool(min(self.count, jobs), self.limit)
            weakref.finalize(self, self.pool.close)
        return self.pool

    def release(self) -> None:
        """Ends workers that nobody needs any more."""
        if self.pool:
            self.pool.close()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs the jobs of our sweeper, or of another.

        The return value of a job of ours is its exit code, None if it was interrupted; for another
        sweeper it is that of the task function.
        """
        if not self.assignments:
            return self._launch_any(job_overrides, initial_job_idx)
        from microgpt.sweep.worker import Task
        from microgpt.tracking import SendingProcess

        hydra = self.config.hydra
        told = (self.context, hydra) if self.context.callbacks.callbacks else None
        shared = uuid4().hex, os.getcwd(), dict(hydra.job.env_set), SendingProcess.address(), told
        codes = self._run(
            [
                Task(job, number, *shared)
                for number, job in enumerate(self.assignments, initial_job_idx)
            ]
        )
        return [
            JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=code)
            for words, code in zip(job_overrides, codes, strict=True)
        ]

    def _launch_any(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """As `hydra/launcher=basic`, but in workers, which stay for the next call."""
        import cloudpickle

        from microgpt.sweep.hydra_job import Application, HydraJob

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        shared = Application(self.function, self.context, self.config, Singleton.get_state())
        content, launch, place = cloudpickle.dumps(shared), uuid4().hex, os.getcwd()
        results = self._run(
            [
                HydraJob(content, list(words), number, launch, place)
                for number, words in enumerate(job_overrides, initial_job_idx)
            ],
            more=True,
        )
        return [cloudpickle.loads(result) for result in results]

    def _run(self, tasks: Sequence["Work"], more: bool = False) -> list[Any]:
        if self.address is None:
            return self._workers(len(tasks)).run(tasks, self.signals, more)
        from microgpt.sweep.cluster import run_on  # late: Dask takes its time

        return run_on(self.address, tasks, self.signals)
