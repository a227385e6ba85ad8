"""The sigmoid linear unit."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Activation


class SiLU(Activation):
    """x / (1 + exp(-x)) (Elfwing et al. 2017, arXiv 1702.03118, equation 6), Swish with beta = 1.

    Ramachandran et al. 2017, arXiv 1710.05941.
    """

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return x * ops.sigmoid(x)
