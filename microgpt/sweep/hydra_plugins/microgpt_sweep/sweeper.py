"""The sweeper of `microgpt train -m`: grids, keys side by side, explicit arms; skips what is done."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from microgpt.terminal import Ended


class MicrogptSweeper(Sweeper):
    """Hands Hydra's command line to `microgpt.sweep`."""

    def __init__(
        self,
        params: Mapping[str, str],
        zip: Sequence[Any],
        arms: Sequence[Mapping[str, Any]] | None,
        ablation: Mapping[str, Any] | None,
    ) -> None:
        self.params, self.zip, self.arms, self.ablation = params, zip, arms, ablation

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Called by Hydra before `sweep`."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> "Ended":
        """Train all that the command line asks for."""
        from microgpt.sweep.command import sweep  # late: Hydra scans this file at every start

        return sweep(self, arguments)
