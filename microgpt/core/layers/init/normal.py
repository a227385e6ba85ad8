"""Normal initialisation with the same bits on every machine."""

from random import Random

from microgpt.core.check import nonnegative
from microgpt.core.engine.shapes import Rows
from microgpt.core.exact import normal
from microgpt.core.layers.base import Dims, Init
from microgpt.core.weight import Weight


class Normal(Init):
    """N(0, std^2) for every matrix, by `exact.normal`."""

    def __init__(self, *, std: float) -> None:
        self.std = nonnegative("std", std)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        return [[self.std * normal(rng) for _ in range(weight.n_in)] for _ in range(weight.n_out)]
