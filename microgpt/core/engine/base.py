"""The interface between a model and the engine that computes it.

An activation is a matrix `[T][n]`, one row per token. A matrix is an opaque handle made by its engine;
a weight is a matrix `[n_out][n_in]` whose gradient `backward` accumulates. An engine implements the
primitives. The derived operations are defined here in terms of primitives, and an engine may
override them with fused ones. A layer, loss or update rule written with these operations runs on
every engine.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from microgpt.core.data import Batch
from microgpt.core.engine.shapes import Bias, Rows, Spans, check_bias


class Matrix:
    """A handle of `[T][n]` numbers; its operators call its engine.

    `x**2` and `x**3` are the products `x * x` and `x * x * x`.
    """

    __slots__ = ()
    ops: "Engine"  # the engine that made it

    def __add__(self, other: "Matrix | float") -> "Matrix":
        return self.ops.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: "Matrix | float") -> "Matrix":
        return self.ops.add(self, -other)

    def __rsub__(self, other: float) -> "Matrix":
        return self.ops.add(-self, other)

    def __neg__(self) -> "Matrix":
        return self.ops.mul(self, -1)

    def __mul__(self, other: "Matrix | float") -> "Matrix":
        return self.ops.mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: "Matrix | float") -> "Matrix":
        return self.ops.div(self, other)

    def __pow__(self, power: float) -> "Matrix":
        if power == 2:
            return self.ops.mul(self, self)
        if power == 3:
            return self.ops.mul(self.ops.mul(self, self), self)
        return self.ops.pow(self, power)


Weights: TypeAlias = Mapping[str, Matrix]
Forward: TypeAlias = Callable[["Engine", Weights, Batch], tuple[Matrix, Matrix]]


class Updates(Protocol):
    """The method of an optimizer that `Engine.step` calls."""

    def step(self, ops: "Engine", gradients: Weights, lr: float, scale: float) -> None:
        """Update the weights from their gradients times `scale`, at learning rate `lr`."""


class Engine(ABC):
    """Matrices, the operations on them, and reverse-mode gradients."""

    arithmetic: str  # engines with the same name compute the same bits

    def depends_on(self) -> dict[str, str]:
        """Libraries and settings that the bits of the results depend on, such as the BLAS."""
        return {}

    # Primitives: numbers in and out

    @abstractmethod
    def parameter(self, rows: Rows) -> Matrix:
        """A weight with these values, in rows of one length."""

    @abstractmethod
    def constant(self, rows: Rows) -> Matrix:
        """A matrix without a gradient."""

    @abstractmethod
    def detached(self, x: Matrix) -> Matrix:
        """The same values as a constant: operations on it are not recorded for `backward`.

        It may share memory with x: do not use it after `assign` or `load` to x.
        """

    @abstractmethod
    def values(self, x: Matrix) -> Rows:
        """The values of a matrix, as rows."""

    @abstractmethod
    def shape(self, x: Matrix) -> tuple[int, int]:
        """(rows, columns)."""

    @abstractmethod
    def backward(self, loss: Matrix) -> None:
        """Add d loss / d weight to the gradient of every weight that the `[1][1]` loss depends on."""

    @abstractmethod
    def gradients(self, weights: Weights) -> dict[str, Matrix]:
        """Returns each weight's gradient as a constant, 0 if there is none, and resets the gradients.

        The returned matrices are valid until the next `backward` or `gradients`.
        """

    @abstractmethod
    def assign(self, target: Matrix, source: Matrix) -> None:
        """Copies the values of `source` into `target`, a weight or a constant of the same shape.

        Do not use afterwards what was detached or computed from `target` before.
        """

    @abstractmethod
    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        """The values of each matrix as one list, row by row."""

    @abstractmethod
    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        """Sets the values of each matrix to what `flat` returned; see `assign`."""

    # Primitives: rows and columns

    @abstractmethod
    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        """Row ids[t] of x as row t: `[N][n] -> [T][n]`."""

    @abstractmethod
    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        """Concatenates along rows: `[T1][n], [T2][n], ... -> [T1 + T2 + ...][n]`."""

    @abstractmethod
    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        """Columns start..stop-1: `[T][n] -> [T][stop - start]`."""

    @abstractmethod
    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        """Concatenates along columns: `[T][n1], [T][n2], ... -> [T][n1 + n2 + ...]`."""

    @abstractmethod
    def transpose(self, x: Matrix) -> Matrix:
        """`[T][n] -> [n][T]`."""

    @abstractmethod
    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        """Entry ids[t] of row t: `[T][n] -> [T][1]`."""

    # Primitives: arithmetic. `b` may be a float, `[T][n]`, `[T][1]` or `[1][n]`, and is broadcast.
    # All of them propagate nan, except that nan**0 is 1; x / 0 is inf or nan.

    @abstractmethod
    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        """a + b, with a `[T][n]`."""

    @abstractmethod
    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        """a * b elementwise, with a `[T][n]`."""

    @abstractmethod
    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        """a / b elementwise, with a `[T][n]`."""

    @abstractmethod
    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        """x times w transposed: `[T][n], [m][n] -> [T][m]`."""

    @abstractmethod
    def row_sum(self, x: Matrix) -> Matrix:
        """`[T][n] -> [T][1]`, summed from left to right."""

    @abstractmethod
    def row_max(self, x: Matrix) -> Matrix:
        """`[T][n] -> [T][1]`, a constant: no gradient goes through it."""

    @abstractmethod
    def sign(self, x: Matrix) -> Matrix:
        """-1, 0 or 1 elementwise, a constant: no gradient goes through it."""

    @abstractmethod
    def relu(self, x: Matrix) -> Matrix:
        """max(0, x)."""

    @abstractmethod
    def exp(self, x: Matrix) -> Matrix:
        """e**x."""

    @abstractmethod
    def log(self, x: Matrix) -> Matrix:
        """Natural logarithm; -inf at 0, nan below."""

    @abstractmethod
    def tanh(self, x: Matrix) -> Matrix:
        """Hyperbolic tangent."""

    @abstractmethod
    def pow(self, x: Matrix, power: float) -> Matrix:
        """x**power for a constant power; nan where x < 0 and the power is not an integer."""

    # Derived: many matrices

    def parameters(self, rows: Mapping[str, Rows]) -> dict[str, Matrix]:
        """Makes the weights of a model, by name."""
        return {name: self.parameter(numbers) for name, numbers in rows.items()}

    def zeros_like(self, matrices: Weights) -> dict[str, Matrix]:
        """A constant of zeros with the shape of each matrix."""
        shapes = {name: self.shape(x) for name, x in matrices.items()}
        return {name: self.constant([[0.0] * n] * rows) for name, (rows, n) in shapes.items()}

    def joined(self, matrices: Weights) -> Weights:
        """The same values in fewer matrices, for elementwise operations; by default, as they are.

        Accepts what `parameters`, `gradients` or `zeros_like` returned; those of one model are joined
        in the same way. The result is a view: `assign` to it changes the original matrices.
        """
        return matrices

    def global_norm(self, matrices: Weights) -> float:
        """The Euclidean norm over all matrices together, summed in order."""
        total = 0.0
        for flat in self.flat(matrices).values():
            for number in flat:
                total += number * number
        return math.sqrt(total)

    # Derived: functions

    def mean(self, x: Matrix) -> Matrix:
        """The mean of a column: `[T][1] -> [1][1]`."""
        return self.row_sum(self.transpose(x)) * (1 / self.shape(x)[0])

    def sigmoid(self, x: Matrix) -> Matrix:
        """1 / (1 + exp(-x)), computed as (1 + tanh(x / 2)) / 2, which cannot overflow."""
        return 0.5 * (1 + self.tanh(0.5 * x))

    def softmax(self, x: Matrix) -> Matrix:
        """exp(x) / sum(exp(x)) for each row; the row's maximum is subtracted first."""
        exps = self.exp(x - self.row_max(x))
        return exps / self.row_sum(exps)

    def logsumexp(self, x: Matrix) -> Matrix:
        """log(sum(exp(x))) for each row, `[T][n] -> [T][1]`; the row's maximum is subtracted first."""
        top = self.row_max(x)
        return self.log(self.row_sum(self.exp(x - top))) + top

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        """x / sqrt(mean(x^2) + eps) for each row (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4)."""
        mean_square = self.row_sum(x**2) * self.shape(x)[1] ** -1
        return x * (mean_square + eps) ** -0.5

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        """-log softmax(logits)[target] in nats: `[T][vocab_size] -> [T][1]`."""
        return -self.log(self.pick(self.softmax(logits), targets))

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
        """Causal softmax(scale q k^T + bias) v for each head (arXiv 1706.03762, equation 1).

        q      `[T][n_head * head_dim]`; its rows are the last T of the S rows, T < S with a KV cache
        k, v   `[S][n_kv_head * head_dim]`, where n_kv_head divides n_head
        spans  (start, stop) of each document in the S rows
        bias   `[n_head][distance]`, added to the score of a key `distance` rows before the query
        scale  1 / sqrt(head_dim) by default

        Returns `[T][n_head * head_dim]`. Raises ValueError for a bias of another shape.
        """
        (n_query, width), (n_key, kv_width) = self.shape(q), self.shape(k)
        head_dim, cached = width // n_head, n_key - n_query
        share = n_head * head_dim // kv_width  # query heads per key-value head
        scale = (head_dim**0.5) ** -1 if scale is None else scale
        check_bias(bias, n_head, spans)
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
                    query = self.gather(q_h, [t - cached])
                    scores = self.transpose(self.linear(self.gather(k_h, seen), query)) * scale
                    if bias is not None:  # scores are [1][seen]
                        scores = scores + self.constant([[bias[h][t - s] for s in seen]])
                    values = self.transpose(self.gather(v_h, seen))  # [head_dim][seen]
                    out = self.linear(values, self.softmax(scores))  # [head_dim][1]
                    rows.append(self.transpose(out))
            heads.append(self.concat_rows(rows))
        return self.concat_columns(heads)

    # Derived: training

    def adam(
        self,
        p: Matrix,
        g: Matrix,
        m: Matrix,
        v: Matrix,
        *,
        beta1: float,
        beta2: float,
        rate: float,
        eps: float,
    ) -> tuple[Matrix, Matrix, Matrix]:
        """Adam's update without bias correction (arXiv 1412.6980); returns new p, m and v.

        An engine may compute it in place: the arguments must not be used afterwards.
        """
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        return p - rate * m / (v**0.5 + eps), m, v

    def step(
        self,
        forward: Forward,
        weights: Weights,
        batches: Sequence[Batch],
        optimizer: Updates,
        *,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> tuple[float, float]:
        """One update of the weights from the gradients of all batches together.

        `forward` returns the objective to minimise and the loss to report, both `[1][1]` means over
        the batch's tokens. Gradients are clipped to the global norm `clip_norm` (Pascanu et al. 2012,
        arXiv 1211.5063). Returns the loss before the update and the global norm before clipping,
        which is 0 unless `clip_norm` or `measured` requires it. If the loss is not finite, returns
        (loss, nan) without an update.
        """
        loss = 0.0
        for batch, share in zip(batches, shares(batches)):
            objective, reported = forward(self, weights, batch)
            loss += share * self.values(reported)[0][0]
            if not math.isfinite(loss):
                return loss, math.nan
            self.backward(objective if share == 1 else share * objective)
        gradients = self.gradients(weights)
        norm = self.global_norm(gradients) if clip_norm or measured else 0.0
        scale = clip_norm / norm if clip_norm and norm > clip_norm else 1.0
        optimizer.step(self, gradients, lr, scale)
        return loss, norm


def shares(batches: Sequence[Batch]) -> list[float]:
    """Each batch's share of all tokens."""
    if len(batches) == 1:
        return [1.0]
    total = sum(len(batch.tokens) for batch in batches)
    return [len(batch.tokens) / total for batch in batches]
