"""The hyperbolic tangent."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Activation


class Tanh(Activation):
    """tanh(x), as in the MLP language model of Bengio et al. 2003, equation 1."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return ops.tanh(x)
