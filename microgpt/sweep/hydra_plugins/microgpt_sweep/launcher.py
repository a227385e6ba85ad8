"""The launcher of sweeps: the jobs in worker processes, by Dask."""

import os
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class DaskLauncher(Launcher):
    """Trains the jobs of a sweep in processes that may die without harm to the others."""

    def __init__(self, address: str | None, workers: int | None, memory_limit: str) -> None:
        self.address, self.workers, self.memory_limit = address, workers, memory_limit

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `launch`."""
        from microgpt.sweep.cluster import check  # late: Dask takes its time

        check(self.workers, self.memory_limit)
        self.hydra_context, self.config = hydra_context, config
        self.task_function = task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train; the return value of a job is its exit code, None if it was interrupted."""
        from microgpt.sweep.cluster import run_all
        from microgpt.sweep.worker import Task

        state: Any = Singleton.get_state()
        shared = self.hydra_context, self.config, self.task_function, state
        launch = uuid4().hex
        tasks = [
            Task(*shared, list(words), number, launch, os.getcwd())
            for number, words in enumerate(job_overrides, initial_job_idx)
        ]
        codes = run_all(tasks, self.address, self.workers, self.memory_limit)
        return [
            JobReturn(overrides=task.words, status=JobStatus.COMPLETED, _return_value=code)
            for task, code in zip(tasks, codes)
        ]
