"""RMSNorm with a learned gain."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Dims, Shapes
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.weight import Weight


class RMSNormGain(RMSNorm):
    """gain * x / sqrt(mean(x^2) + eps), with a learned gain `[1][n_embd]`.

    Zhang & Sennrich 2019, arXiv 1910.07467, equation 4.
    """

    def shapes(self, dims: Dims, site: str) -> Shapes:
        return {f"{site}.gain": Weight(1, dims.n_embd, "gain")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return super().__call__(ops, w, x, site) * w[f"{site}.gain"]
