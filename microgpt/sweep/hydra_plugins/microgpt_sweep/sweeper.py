"""The sweeper of `microgpt train -m`: grids, keys side by side, explicit arms; skips what is done."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class MicrogptSweeper(Sweeper):
    """Hands Hydra's command line to `microgpt.sweep`."""

    def __init__(
        self,
        params: Mapping[str, str],
        zip: Sequence[Any],
        arms: Sequence[Mapping[str, Any]],
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

    def sweep(self, arguments: list[str]) -> NoReturn:
        """Train all that the command line asks for; exits with how that went."""
        from microgpt.sweep.command import sweep  # late: Hydra scans this file at every start

        sys.exit(sweep(self, arguments))
