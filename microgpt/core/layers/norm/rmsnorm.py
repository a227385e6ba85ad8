"""RMSNorm: each row is divided by its root mean square."""

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Norm


class RMSNorm(Norm):
    """x / sqrt(mean(x^2) + eps) (Zhang & Sennrich 2019, arXiv 1910.07467). Departs: no gain."""

    def __init__(self, *, eps: float) -> None:
        self.eps = positive("eps", eps)

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return ops.rmsnorm(x, self.eps)
