"""No normalisation, as the control of an ablation."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Norm


class NoNorm(Norm):
    """The identity."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return x
