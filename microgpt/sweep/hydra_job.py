"""A job of any Hydra application, as our launcher hands it to a worker.

A worker is a child of the launcher, behind a pipe, or one of a Dask cluster that the user names: it
unpickles what the user's own process has pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cloudpickle
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from microgpt.one_run import described


class Application(NamedTuple):
    """What all jobs of a sweep share."""

    function: TaskFunction
    context: HydraContext
    config: DictConfig  # of the sweep
    singletons: Any  # Hydra's, and the resolvers of OmegaConf


@dataclass(frozen=True)
class HydraJob:
    """One job. It returns a pickled JobReturn, as its task function may be defined in a script."""

    application: bytes  # pickled
    overrides: Sequence[str]
    number: int
    launch: str
    place: str
    stoppable = False

    @property
    def name(self) -> str:
        """The overrides but those of Hydra, or the number if there are none."""
        return " ".join(filter_overrides(self.overrides)) or f"job {self.number}"

    def do(self) -> bytes:
        """Runs the task function as `hydra/launcher=basic` does."""
        job: Application = cloudpickle.loads(self.application)
        setup_globals()
        Singleton.set_state(job.singletons)
        config = job.context.config_loader.load_sweep_config(job.config, list(self.overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{self.number}"
            config.hydra.job.num = self.number
        place = "hydra.sweep.dir", "hydra.sweep.subdir"
        return pickled(run_job(job.function, config, *place, job.context))

    def lost(self, reason: str) -> bytes:
        """A job that has failed."""
        error = RuntimeError(f"{self.name}: {reason}")
        return pickled(JobReturn(self.overrides, status=JobStatus.FAILED, _return_value=error))


def pickled(done: JobReturn) -> bytes:
    """Pickles a result; an exception that cannot be unpickled is replaced by its description."""
    content: bytes = cloudpickle.dumps(done)
    if done.status == JobStatus.FAILED:
        try:
            cloudpickle.loads(content)
        except Exception:
            done.return_value = RuntimeError(described(done._return_value))
            content = cloudpickle.dumps(done)
    return content
