"""Normal initialisation, with smaller projections into the residual stream in deeper models."""

from math import sqrt
from random import Random

from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims
from microgpt.core.layers.init.normal import Normal
from microgpt.core.weight import Weight


class ScaledResidual(Normal):
    """Weights of role `residual_out` have the standard deviation std / sqrt(2 n_layer), others std.

    Radford et al. 2019 (GPT-2), section 2.3: 1 / sqrt(N) for N residual sums, two in each layer.
    """

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        rows = super().draw(weight, dims, rng)
        if weight.role != "residual_out":
            return rows
        factor = 1 / sqrt(2 * dims.n_layer)
        return [[factor * x for x in row] for row in rows]
