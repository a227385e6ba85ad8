"""Attention with linear biases."""

from microgpt.core import exact
from microgpt.core.layers.base import Dims, Position


class ALiBi(Position):
    """The score of a key d tokens back is lowered by d * 2^(-8 h / n_head), for head h = 1 to n_head.

    Press et al. 2021, arXiv 2108.12409, section 3. Departs as to numbers of heads that are no power of
    two: they have the same formula.
    """

    def bias(self, dims: Dims) -> list[list[float]]:
        heads = range(1, dims.n_head + 1)
        slopes = [exact.pow(2.0, -8 * h / dims.n_head) for h in heads]
        return [[-slope * d for d in range(dims.block_size)] for slope in slopes]
