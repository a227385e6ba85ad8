"""Cosine decay."""

import math

from microgpt.core import exact
from microgpt.core.check import fraction
from microgpt.core.schedule.base import Schedule


class Cosine(Schedule):
    """From 1 to `final` along half a cosine period (Loshchilov & Hutter 2016, arXiv 1608.03983, eq. 5)."""

    def __init__(self, *, warmup_steps: int, final: float) -> None:
        super().__init__(warmup_steps=warmup_steps)
        self.final = fraction("final", final)

    def decay(self, progress: float) -> float:
        return self.final + (1 - self.final) * (1 + exact.cos(math.pi * progress)) / 2
