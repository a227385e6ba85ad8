"""Normal numbers with the same bits on every machine."""

from random import Random

from microgpt.core import exact
from microgpt.core.check import nonnegative
from microgpt.core.engine.base import Rows
from microgpt.core.layers.base import Init


class Normal(Init):
    """N(0, std^2) for every weight, by `exact.normal`."""

    def __init__(self, *, std: float) -> None:
        self.std = nonnegative("std", std)

    def draw(self, name: str, n_out: int, n_in: int, rng: Random) -> Rows:
        return [[self.std * exact.normal(rng) for _ in range(n_in)] for _ in range(n_out)]
