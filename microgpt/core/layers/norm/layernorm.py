"""LayerNorm: each row is centred and divided by its standard deviation."""

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Norm


class LayerNorm(Norm):
    """(x - mean) / sqrt(var + eps) (Ba et al. 2016, arXiv 1607.06450). Departs: no gain, no bias.

    It is computed as the RMSNorm of x - mean, whose mean square is the variance.
    """

    def __init__(self, *, eps: float) -> None:
        self.eps = positive("eps", eps)

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        n_embd = ops.shape(x)[1]
        return ops.rmsnorm(x + ops.row_sum(x) * (-1 / n_embd), self.eps)
