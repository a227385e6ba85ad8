"""No normalisation: the arm that shows what one is good for."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Norm


class NoNorm(Norm):
    """x as it is."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return x
