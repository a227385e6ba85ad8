"""Normal initialisation as in the original program."""

from random import Random

from microgpt.core.check import nonnegative
from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims, Init
from microgpt.core.weight import Weight


class Gauss(Init):
    """N(0, std^2) for every matrix, by `random.gauss`, whose last bits depend on the machine's libm."""

    def __init__(self, *, std: float) -> None:
        self.std = nonnegative("std", std)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        return [[rng.gauss(0, self.std) for _ in range(weight.n_in)] for _ in range(weight.n_out)]
