"""Rotary position embeddings."""

from functools import lru_cache

from microgpt.core import exact
from microgpt.core.check import BadValue, number
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Context, Dims, Position, Shapes


class RoPE(Position):
    """Pairs of numbers of each head's queries and keys are rotated by angles t * base^(-2i / head_dim).

    (a, b) -> (a cos - b sin, a sin + b cos) for pair i at position t (Su et al. 2021, arXiv 2104.09864,
    equation 34), so that a score depends on the distance alone. Departs as Llama does: pair i is
    (i, i + head_dim / 2), not (2i, 2i + 1), which permutes the columns of the weights.
    """

    def __init__(self, *, base: float) -> None:
        self.base = number("base", base, "> 1", lambda v: v > 1)

    def shapes(self, dims: Dims) -> Shapes:
        if dims.head_dim % 2:
            allowed = f"rope rotates pairs: n_embd / n_head must be even, but is {dims.head_dim}"
            raise BadValue("n_head", dims.n_head, allowed)
        return {}

    def rotate(self, ops: Engine, x: Matrix, context: Context) -> Matrix:
        size, width = context.dims.head_dim, ops.shape(x)[1]
        rows = [rotation(t, size, self.base) for t in context.positions]
        cos = ops.constant([c * (width // size) for c, _ in rows])  # [T][width]
        sin = ops.constant([s * (width // size) for _, s in rows])
        halves = [ops.columns(x, i, i + size // 2) for i in range(0, width, size // 2)]
        swapped = [half for a, b in zip(halves[::2], halves[1::2]) for half in (b, a)]
        return x * cos + ops.concat_columns(swapped) * sin


@lru_cache(4096)
def rotation(t: int, head_dim: int, base: float) -> tuple[list[float], list[float]]:
    """Factors `[head_dim]` of a head's numbers, and of the other numbers of their pairs."""
    half = head_dim // 2
    angles = [t * exact.pow(base, -i / half) for i in range(half)]
    cos, sin = [exact.cos(a) for a in angles], [exact.sin(a) for a in angles]
    return cos + cos, [-s for s in sin] + sin
