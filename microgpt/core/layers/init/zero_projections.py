"""Normal initialisation, with zeros in the projections into the residual stream."""

from random import Random

from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims
from microgpt.core.layers.init.normal import Normal
from microgpt.core.weight import Weight


class ZeroProjections(Normal):
    """Weights of role `residual_out` are 0, so that every pre-norm block begins as the identity.

    Goyal et al. 2017, arXiv 1706.02677, 5.1, for residual networks; Zhang et al. 2019, arXiv 1901.09321.
    """

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        if weight.role == "residual_out":
            return [[0.0] * weight.n_in for _ in range(weight.n_out)]
        return super().draw(weight, dims, rng)
