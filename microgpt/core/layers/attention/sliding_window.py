"""Attention to the last tokens only."""

from math import inf

from microgpt.core.check import integer
from microgpt.core.engine.shapes import Bias
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.base import Dims, Position


class SlidingWindow(MultiHead):
    """Multi-head attention to `window` tokens: the current one and those before it.

    Beltagy et al. 2020 (Longformer), arXiv 2004.05150, 3.1; Jiang et al. 2023 (Mistral), arXiv
    2310.06825. A score further back is -inf, and its weight 0. Departs: keys that no query can see any
    more are still kept and computed.
    """

    def __init__(self, *, window: int) -> None:
        self.window = integer("window", window, 1)

    def bias(self, dims: Dims, at: Position) -> Bias:
        rows = at.bias(dims) or [[0.0] * dims.block_size for _ in range(dims.n_head)]
        return [row[: self.window] + [-inf] * (len(row) - self.window) for row in rows]
