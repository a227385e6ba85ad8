"""Warm-up, stable, decay."""

from math import sqrt

from microgpt.core.check import number
from microgpt.core.schedule.base import Schedule


class WarmupStableDecay(Schedule):
    """The peak rate, and in the last `decay` of the steps after the warm-up 1 - sqrt(share of them done).

    Hu et al. 2024 (MiniCPM), arXiv 2404.06395, section 4; this decay is Hägele et al. 2024, arXiv
    2405.18392, section 3.
    """

    def __init__(self, *, warmup_steps: int, decay: float) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.share = number("decay", decay, "> 0 and <= 1", lambda v: 0 < v <= 1)

    def decay(self, progress: float) -> float:
        return 1 - sqrt(max(0.0, progress - (1 - self.share)) / self.share)
