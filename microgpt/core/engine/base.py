"""The contract between the model and what computes it.

The model speaks in rows: an activation is a matrix of T rows, one a token. A matrix is an opaque handle
that its engine makes, a weight is a matrix `[n_out][n_in]` that `backward` leaves a gradient for.
An engine must have the primitives; the derived operations are written here once, from primitives
alone, and an engine overrides those that it can fuse. A layer that is written with these operations
runs on every engine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from microgpt.core.optim.base import Optimizer

Matrix: TypeAlias = Any  # the engine's own handle
Rows: TypeAlias = list[list[float]]
Bias: TypeAlias = Sequence[Sequence[float]] | None
Spans: TypeAlias = Sequence[tuple[int, int]]


class Engine(Protocol):
    """Matrices, the operations on them, and the gradients of a loss.

    What has a docstring and no body is a primitive; the type checker refuses an engine without one.
    """

    @property
    def arithmetic(self) -> str:
        """What its bits are: engines with one arithmetic have the same bits."""

    def depends_on(self) -> dict[str, str]:
        """What the bits of the results depend on, beside the code, the interpreter and the machine."""
        return {}

    # Numbers in and out

    def parameter(self, rows: Rows) -> Matrix:
        """A weight with these numbers."""

    def constant(self, rows: Rows) -> Matrix:
        """Numbers whose gradient nobody asks for."""
        return self.parameter(rows)

    def frozen(self, weights: Mapping[str, Matrix]) -> Mapping[str, Matrix]:
        """The same weights for inference: an engine that keeps a tape keeps none of what they enter."""
        return weights

    def values(self, x: Matrix) -> Rows:
        """The numbers of a matrix."""

    def shape(self, x: Matrix) -> tuple[int, int]:
        """(rows, columns)."""

    def backward(self, loss: Matrix) -> None:
        """Leave d loss / d weight with every weight that the `[1][1]` loss was computed from."""

    def gradients(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        """Each weight's gradient, flat, row by row; the engine forgets them."""

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        """Each weight's numbers, flat, row by row."""

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        """Set each weight's numbers from a flat list."""

    # Primitives: rows and columns

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        """Row ids[t] of x as row t: `[N][n] -> [T][n]`."""

    def stack(self, xs: Sequence[Matrix]) -> Matrix:
        """The rows of all, one matrix below another."""

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        """Columns start..stop-1: `[T][n] -> [T][stop - start]`."""

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        """The columns of all, one matrix beside another."""

    def transpose(self, x: Matrix) -> Matrix:
        """`[T][n] -> [n][T]`."""

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        """Entry ids[t] of row t: `[T][n] -> [T][1]`."""

    # Primitives: arithmetic. `b` may be a float, `[T][n]`, `[T][1]` or `[1][n]`.

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        """a + b, with a `[T][n]`."""

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        """a * b entry by entry, with a `[T][n]`."""

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        """x times w transposed: `[T][n], [m][n] -> [T][m]`."""

    def row_sum(self, x: Matrix) -> Matrix:
        """`[T][n] -> [T][1]`, from left to right."""

    def row_max(self, x: Matrix) -> Matrix:
        """`[T][n] -> [T][1]`, a constant: no gradient goes through it."""

    def relu(self, x: Matrix) -> Matrix:
        """max(0, x)."""

    def exp(self, x: Matrix) -> Matrix:
        """e to the power of x."""

    def log(self, x: Matrix) -> Matrix:
        """Natural logarithm."""

    def tanh(self, x: Matrix) -> Matrix:
        """Hyperbolic tangent."""

    def pow(self, x: Matrix, power: float) -> Matrix:
        """x to a constant power."""

    # Derived

    def div(self, a: Matrix, b: Matrix) -> Matrix:
        """a / b."""
        return self.mul(a, self.pow(b, -1))

    def mean(self, x: Matrix) -> Matrix:
        """The mean of a column: `[T][1] -> [1][1]`."""
        return self.mul(self.row_sum(self.transpose(x)), 1 / self.shape(x)[0])

    def softmax(self, x: Matrix) -> Matrix:
        """exp(x) / sum(exp(x)) a row, with the row's maximum taken off first."""
        exps = self.exp(self.add(x, self.mul(self.row_max(x), -1)))
        return self.div(exps, self.row_sum(exps))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        """x / sqrt(mean(x^2) + eps) a row (Zhang & Sennrich 2019, arXiv 1910.07467, equation 4)."""
        mean_square = self.mul(self.row_sum(self.mul(x, x)), self.shape(x)[1] ** -1)
        return self.mul(x, self.pow(self.add(mean_square, eps), -0.5))

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        """-log softmax(logits)[target] in nats: `[T][vocab_size] -> [T][1]`."""
        return self.mul(self.log(self.pick(self.softmax(logits), targets)), -1)

    def attention(
        self, q: Matrix, k: Matrix, v: Matrix, *, n_head: int, spans: Spans, bias: Bias = None
    ) -> Matrix:
        """Causal softmax(q k^T / sqrt(head_dim) + bias) v for each head (arXiv 1706.03762, eq. 1).

        q is `[T][n_head * head_dim]`; k and v are `[S][n_kv_head * head_dim]`, where n_kv_head divides
        n_head. The spans divide the S rows of k into documents; the rows of q are the last T of
        those, so T < S where the first keys come from a cache. `bias[head][distance]` is added
        to the score of a key `distance` rows before the query. Returns `[T][n_head * head_dim]`.
        """
        (n_query, width), (n_key, kv_width) = self.shape(q), self.shape(k)
        head_dim, cached = width // n_head, n_key - n_query
        share = n_head * head_dim // kv_width  # query heads that read one key-value head
        heads = []
        for h in range(n_head):
            at, kv_at = h * head_dim, h // share * head_dim
            q_h = self.columns(q, at, at + head_dim)
            k_h = self.columns(k, kv_at, kv_at + head_dim)
            v_h = self.columns(v, kv_at, kv_at + head_dim)
            rows = []
            for start, stop in spans:
                for t in range(max(start, cached), stop):
                    seen = range(start, t + 1)
                    query = self.rows(q_h, [t - cached])
                    scores = self.transpose(self.linear(self.rows(k_h, seen), query))  # [1][seen]
                    scores = self.mul(scores, (head_dim**0.5) ** -1)
                    if bias is not None:
                        scores = self.add(scores, self.constant([[bias[h][t - s] for s in seen]]))
                    values = self.transpose(self.rows(v_h, seen))  # [head_dim][seen]
                    out = self.linear(values, self.softmax(scores))  # [head_dim][1]
                    rows.append(self.transpose(out))
            heads.append(self.stack(rows))
        return self.concat(heads)

    def update(
        self,
        weights: Mapping[str, Matrix],
        optimizer: Optimizer,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> float:
        """One step of the optimizer on every weight, from the gradients that `backward` left.

        All gradients together, if longer than `clip_norm`, are first scaled down to it (Pascanu et al.
        2012, arXiv 1211.5063). Returns their length before that; 0 if neither it nor `measured` asks.
        """
        gradients = self.gradients(weights)
        norm = length(gradients) if clip_norm or measured else 0.0
        if clip_norm and norm > clip_norm:
            scale = clip_norm / norm
            gradients = {name: [scale * g for g in flat] for name, flat in gradients.items()}
        self.assign(weights, optimizer.step(self.flat(weights), gradients, lr))
        return norm


def length(vectors: Mapping[str, list[float]]) -> float:
    """The Euclidean norm of all numbers together, summed in order."""
    total = 0.0
    for flat in vectors.values():
        for number in flat:
            total += number * number
    return math.sqrt(total)
