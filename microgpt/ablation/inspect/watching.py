"""An engine that remembers what a forward pass computes on its way."""

from collections.abc import Sequence
from math import sqrt
from typing import Any, TypeAlias

from microgpt.core.engine.shapes import Bias, Spans
from microgpt.vector import kernels
from microgpt.vector.engine import VectorEngine

Matrix: TypeAlias = Any
Grid: TypeAlias = list[list[float]]


class Watching(VectorEngine):
    """The vector engine, with its bits; of the one document that it is given it keeps:

    attention    for each layer, `[n_head][T][T]`: how much each position attends to each one
    activations  (name of the weight, root mean square of each row) of what a weight makes, in order
    """

    def __init__(self) -> None:
        super().__init__()
        self.attended: list[list[Grid]] = []
        self.activations: list[tuple[str, list[float]]] = []
        self._names: dict[int, str] = {}

    def watch(self, weights: dict[str, Matrix]) -> None:
        """Names the weights whose results are kept."""
        self._names = {id(matrix): name for name, matrix in weights.items()}

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        return self._kept(w, super().linear(x, w))

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        return self._kept(x, super().gather(x, ids))

    def _kept(self, weight: Matrix, made: Matrix) -> Matrix:
        if name := self._names.get(id(weight)):
            sizes = [sqrt(sum(x * x for x in row) / len(row)) for row in made.rows]
            self.activations.append((name, sizes))
        return made

    def attention(
        self,
        q: Matrix,
        k: Matrix,
        v: Matrix,
        *,
        n_head: int,
        spans: Spans,
        bias: Bias = None,
        scale: float | None = None,
    ) -> Matrix:
        size = len(q.rows[0]) // n_head
        share = n_head * size // len(k.rows[0])  # query heads per key-value head
        factor = 1 / sqrt(size) if scale is None else scale
        heads = []
        for h in range(n_head):
            at, kv_at = h * size, h // share * size
            grid = []
            for t, query in enumerate(q.rows):
                keys = [row[kv_at : kv_at + size] for row in k.rows[: t + 1]]
                far = [0.0] * (t + 1) if bias is None else [bias[h][t - s] for s in range(t + 1)]
                own = query[at : at + size]
                scores = [
                    factor * sum(a * b for a, b in zip(own, key)) + more
                    for key, more in zip(keys, far)
                ]
                grid.append(kernels.softmax(scores) + [0.0] * (len(k.rows) - t - 1))
            heads.append(grid)
        self.attended.append(heads)
        return super().attention(q, k, v, n_head=n_head, spans=spans, bias=bias, scale=scale)
