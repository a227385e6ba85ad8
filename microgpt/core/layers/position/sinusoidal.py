"""Fixed sinusoidal position encodings."""

from functools import lru_cache

from microgpt.core import exact
from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Context, Position


class Sinusoidal(Position):
    """amplitude * PE is added to the token embeddings `[T][n_embd]`, with

    PE[t][2i] = sin(t / 10000^(2i / n_embd)),  PE[t][2i + 1] = cos(t / 10000^(2i / n_embd))

    (Vaswani et al. 2017, arXiv 1706.03762, 3.5). The paper multiplies embeddings of standard deviation
    1 / sqrt(n_embd) by sqrt(n_embd) instead; an amplitude of their standard deviation gives its ratio.
    """

    def __init__(self, *, amplitude: float) -> None:
        self.amplitude = positive("amplitude", amplitude)

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        n_embd = context.dims.n_embd
        rows = [encoding(t, n_embd) for t in context.positions]
        return x + self.amplitude * ops.constant(rows)


@lru_cache(4096)
def encoding(t: int, n_embd: int) -> list[float]:
    """Row t of PE."""
    angles = [t / exact.pow(10000.0, (i - i % 2) / n_embd) for i in range(n_embd)]
    return [exact.cos(a) if i % 2 else exact.sin(a) for i, a in enumerate(angles)]
