"""LayerNorm with a learned gain and bias."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Dims, Shapes
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.weight import Weight


class LayerNormAffine(LayerNorm):
    """gain * (x - mean) / sqrt(var + eps) + bias, with gain and bias `[1][n_embd]`.

    Ba et al. 2016, arXiv 1607.06450, section 3.1. Gains begin at 1, biases at 0.
    """

    def shapes(self, dims: Dims, site: str) -> Shapes:
        row = 1, dims.n_embd
        return {f"{site}.gain": Weight(*row, "gain"), f"{site}.bias": Weight(*row, "bias")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return super().__call__(ops, w, x, site) * w[f"{site}.gain"] + w[f"{site}.bias"]
