"""Normal numbers as the original program draws them."""

from random import Random

from microgpt.core.check import nonnegative
from microgpt.core.engine.base import Rows
from microgpt.core.layers.base import Init


class Gauss(Init):
    """N(0, std^2) for every weight, by `random.gauss`, whose last bits are the machine's libm's."""

    def __init__(self, *, std: float) -> None:
        self.std = nonnegative("std", std)

    def draw(self, name: str, n_out: int, n_in: int, rng: Random) -> Rows:
        return [[rng.gauss(0, self.std) for _ in range(n_in)] for _ in range(n_out)]
