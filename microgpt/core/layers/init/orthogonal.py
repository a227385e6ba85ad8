"""Orthogonal initialisation of the matrices inside the blocks."""

from math import fsum, sqrt
from random import Random

from microgpt.core.check import positive
from microgpt.core.engine.shapes import Rows
from microgpt.core.exact import normal
from microgpt.core.layers.base import Dims
from microgpt.core.layers.init.normal import Normal
from microgpt.core.weight import HIDDEN, Weight


class Orthogonal(Normal):
    """Hidden matrices are `gain` times one with orthonormal rows, or columns where those are fewer.

    Saxe et al. 2013, arXiv 1312.6120, section 3. Normal rows are orthonormalised one after the other
    (Gram-Schmidt), by sums that are rounded once. Embeddings and the output are normal, with `std`.
    """

    def __init__(self, *, std: float, gain: float) -> None:
        super().__init__(std=std)
        self.gain = positive("gain", gain)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        if weight.role not in HIDDEN:
            return super().draw(weight, dims, rng)
        short, long = sorted((weight.n_out, weight.n_in))
        rows: Rows = []
        for _ in range(short):
            row = [normal(rng) for _ in range(long)]
            for before in rows + rows:  # twice: once leaves rounding errors
                share = _dot(row, before)
                row = [x - share * y for x, y in zip(row, before)]
            norm = sqrt(_dot(row, row))
            rows.append([x / norm for x in row])
        scaled = [[self.gain * x for x in row] for row in rows]
        return scaled if weight.n_out == short else [list(column) for column in zip(*scaled)]


def _dot(a: list[float], b: list[float]) -> float:
    return fsum(x * y for x, y in zip(a, b))
