"""The maximal update parametrisation, whose best learning rate does not move with the width."""

from math import sqrt
from random import Random

from microgpt.core.check import integer
from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims
from microgpt.core.layers.init.normal import Normal
from microgpt.core.weight import HIDDEN, Weight


class MuP(Normal):
    """muP for Adam, AdamW and Lion, equal to `normal` at the base width. With m = n_embd / base_n_embd:

    weights           standard deviation   learning rate   factor
    hidden matrices   std / sqrt(m)        lr / m
    all others        std                  lr
    input of the head                                      1 / m
    attention scores                                       sqrt(base_head_dim) / head_dim

    Yang et al. 2022 (Tensor Programs V), arXiv 2203.03466, table 8 and definition 4.1. Departs: queries
    and output do not begin at zero, which the paper recommends; a decay that is coupled to the rate is
    divided by m with it, where the authors' program keeps it.
    """

    def __init__(self, *, std: float, base_n_embd: int, base_head_dim: int) -> None:
        super().__init__(std=std)
        self.base_n_embd = integer("base_n_embd", base_n_embd, 1)
        self.base_head_dim = integer("base_head_dim", base_head_dim, 1)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        rows = super().draw(weight, dims, rng)
        if weight.role not in HIDDEN:
            return rows
        factor = 1 / sqrt(dims.n_embd / self.base_n_embd)
        return [[factor * x for x in row] for row in rows]

    def lr_scale(self, weight: Weight, dims: Dims) -> float:
        return self.base_n_embd / dims.n_embd if weight.role in HIDDEN else 1.0

    def attention_scale(self, dims: Dims) -> float:
        return sqrt(self.base_head_dim) / dims.head_dim

    def output_scale(self, dims: Dims) -> float:
        return self.base_n_embd / dims.n_embd
