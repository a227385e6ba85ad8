"""Adam, whose second moment forgets at a rate that is given in tokens."""

from collections.abc import Callable
from math import nan

from microgpt.core import exact
from microgpt.core.check import number
from microgpt.core.optim.adam import Adam


class AdamHalfLife(Adam):
    """Adam with beta2 = 2^(-tokens per step / half_life), so that batch sizes have one memory.

    Marek et al. 2025, arXiv 2507.07101, section 3.3. A gradient's share in the second moment is halved
    after `half_life` predicted tokens, with the mean number of tokens of the run's steps.
    """

    def __init__(self, *, lr: float, beta1: float, half_life: float, eps: float) -> None:
        super().__init__(lr=lr, beta1=beta1, beta2=0.0, eps=eps)
        self.half_life = number(
            "half_life", half_life, "> 0 and at most 1e12", lambda v: 0 < v <= 1e12
        )
        self.beta2 = nan  # until `measure`

    def measure(self, tokens: Callable[[], float]) -> None:
        self.beta2 = exact.pow(2.0, -tokens() / self.half_life)
