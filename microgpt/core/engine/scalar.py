"""The reference engine: each number is a node of the graph.

Its graph has the operations of the original 200-line program in the original's order, so that losses
are equal to the last bit: the children of a node have the same order, sums run from left to right
from 0, a quotient is a product with a power of -1, and the backward pass visits the nodes in the
order of the original's recursion.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import chain
from operator import add, mul
from typing import Any, TypeAlias

from microgpt.core.engine import base
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import (
    Rows,
    check_columns,
    check_count,
    check_ids,
    check_loss,
    check_matrix,
    check_numbers,
    check_operand,
    check_range,
    check_rows,
    check_same,
    check_widths,
)

Matrix: TypeAlias = Any  # a ScalarMatrix; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]


class Value:
    """A number, its operands (children), and its derivative with respect to each."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(
        self, data: float, children: tuple["Value", ...] = (), local_grads: tuple[float, ...] = ()
    ) -> None:
        self.data, self.grad = data, 0.0
        self._children, self._local_grads = children, local_grads

    def __add__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, power: float) -> "Value":
        slope = power * _power(self.data, power - 1)
        return Value(_power(self.data, power), (self,), (slope,))

    __radd__ = __add__  # sum() starts from the integer 0
    __rmul__ = __mul__

    def relu(self) -> "Value":
        # Not max(0.0, x), which is 0 for nan.
        return Value(0.0 if self.data <= 0 else self.data, (self,), (float(self.data > 0),))

    def exp(self) -> "Value":
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def log(self) -> "Value":
        if self.data <= 0:  # a probability that underflowed: an infinite loss, not an exception
            return Value(math.nan if self.data else -math.inf, (self,), (math.inf,))
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def tanh(self) -> "Value":
        result = math.tanh(self.data)
        return Value(result, (self,), (1 - result * result,))

    def backward(self) -> None:
        """Backpropagates from this node. Iterative, since recursion would overflow the stack."""
        order: list[Value] = []
        visited: set[Value] = set()
        stack: list[Value | None] = [self]
        while stack:
            node = stack.pop()
            if node is None:  # all descendants of the next node are in `order`
                order.append(stack.pop())  # type: ignore[arg-type]
            elif node._children and node not in visited:  # a leaf has nothing to pass on
                visited.add(node)
                stack += (node, None, *node._children[::-1])
        self.grad = 1.0
        for node in reversed(order):
            grad, node.grad = node.grad, 0.0  # only leaves accumulate over backward passes
            for child, local_grad in zip(node._children, node._local_grads):
                child.grad += local_grad * grad


class ScalarMatrix(base.Matrix):
    """Rows of Values, or of plain floats where no gradient is needed."""

    __slots__ = ("ops", "rows")

    def __init__(self, ops: Engine, rows: list[list[Any]]) -> None:
        self.ops, self.rows = ops, rows


class ScalarEngine(Engine):
    """Each number is a node of the graph: slow, and short enough to check by reading."""

    arithmetic = "libm"

    def parameter(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return ScalarMatrix(self, [[Value(number) for number in row] for row in rows])

    def constant(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return ScalarMatrix(self, [list(row) for row in rows])

    def detached(self, x: Matrix) -> Matrix:
        return ScalarMatrix(self, self.values(x))

    def values(self, x: Matrix) -> Rows:
        return [[getattr(number, "data", number) for number in row] for row in x.rows]

    def shape(self, x: Matrix) -> tuple[int, int]:
        return len(x.rows), len(x.rows[0])

    def backward(self, loss: Matrix) -> None:
        check_loss(self.shape(loss), isinstance(loss.rows[0][0], Value))
        loss.rows[0][0].backward()

    def gradients(self, weights: Weights) -> dict[str, Matrix]:
        grads = {name: [[v.grad for v in row] for row in w.rows] for name, w in weights.items()}
        for value in (value for w in weights.values() for row in w.rows for value in row):
            value.grad = 0.0
        return {name: ScalarMatrix(self, rows) for name, rows in grads.items()}

    def assign(self, target: Matrix, source: Matrix) -> None:
        check_same(self.shape(target), self.shape(source))
        self.load({"": target}, self.flat({"": source}))

    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        return {n: [x for row in self.values(m) for x in row] for n, m in matrices.items()}

    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        for name, matrix in matrices.items():
            check_numbers(self.shape(matrix), len(flat[name]))
            numbers = iter(flat[name])
            for row in matrix.rows:
                for i, x in enumerate(row):
                    if isinstance(x, Value):
                        x.data = next(numbers)
                    else:
                        row[i] = next(numbers)

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_ids(ids, len(x.rows))
        return ScalarMatrix(self, [x.rows[i] for i in ids])

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        check_widths(self.shape(x) for x in xs)
        return ScalarMatrix(self, [row for x in xs for row in x.rows])

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        check_range(self.shape(x), start, stop)
        return ScalarMatrix(self, [row[start:stop] for row in x.rows])

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows(self.shape(x) for x in xs)
        return ScalarMatrix(self, [list(chain(*rows)) for rows in zip(*(x.rows for x in xs))])

    def transpose(self, x: Matrix) -> Matrix:
        return ScalarMatrix(self, [list(column) for column in zip(*x.rows)])

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_count(self.shape(x), ids)
        check_ids(ids, len(x.rows[0]))
        return ScalarMatrix(self, [[row[i]] for row, i in zip(x.rows, ids)])

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pairs(a, b, add)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pairs(a, b, mul)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        # A power node for each quotient: a shared one would add the gradients in another order.
        return self._pairs(a, b, lambda x, y: x * _power(y, -1))

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        check_columns(self.shape(x), self.shape(w))
        total = _total(x.rows[0][0] * w.rows[0][0])
        rows = [[total([wi * xi for wi, xi in zip(wo, row)]) for wo in w.rows] for row in x.rows]
        return ScalarMatrix(self, rows)

    def row_sum(self, x: Matrix) -> Matrix:
        total = _total(x.rows[0][0])
        return ScalarMatrix(self, [[total(row)] for row in x.rows])

    def row_max(self, x: Matrix) -> Matrix:
        rows = self.values(x)
        return ScalarMatrix(self, [[math.nan if any(map(math.isnan, r)) else max(r)] for r in rows])

    def sign(self, x: Matrix) -> Matrix:
        rows = self.values(x)
        return ScalarMatrix(
            self, [[float((a > 0) - (a < 0)) if a == a else a for a in r] for r in rows]
        )

    def relu(self, x: Matrix) -> Matrix:
        return self._each(x, Value.relu)

    def exp(self, x: Matrix) -> Matrix:
        return self._each(x, Value.exp)

    def log(self, x: Matrix) -> Matrix:
        return self._each(x, Value.log)

    def tanh(self, x: Matrix) -> Matrix:
        return self._each(x, Value.tanh)

    def pow(self, x: Matrix, power: float) -> Matrix:
        return ScalarMatrix(self, [[_power(number, power) for number in row] for row in x.rows])

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
        c1, c2, sqrt = 1 - beta1, 1 - beta2, math.sqrt
        for ps, gs, ms, vs in zip(p.rows, g.rows, m.rows, v.rows):
            for i, x in enumerate(gs):
                ms[i] = a = beta1 * ms[i] + c1 * x
                vs[i] = b = beta2 * vs[i] + c2 * (x * x)
                ps[i] -= rate * a / (sqrt(b) + eps)
        return p, m, v

    def _each(self, x: Matrix, function: Callable[[Value], Value]) -> Matrix:
        return ScalarMatrix(self, [[_of(function, number) for number in row] for row in x.rows])

    def _pairs(self, a: Matrix, b: Matrix | float, function: Callable[[Any, Any], Any]) -> Matrix:
        """Applies `function` elementwise to a and b, where b is broadcast to the shape of a."""
        n, rows = len(a.rows[0]), [[b]] if isinstance(b, int | float) else b.rows
        check_operand((len(a.rows), n), (len(rows), len(rows[0])))
        if len(rows) == 1 < len(a.rows):
            rows = rows * len(a.rows)
        if len(rows[0]) == 1 < n:
            rows = [row * n for row in rows]
        return ScalarMatrix(self, [list(map(function, p, q)) for p, q in zip(a.rows, rows)])


def _power(x: Any, power: float) -> Any:
    """x**power, but nan instead of a complex number and inf instead of ZeroDivisionError."""
    if isinstance(x, Value):
        return x**power
    try:
        return math.nan if power % 1 and x < 0 else x**power
    except (ZeroDivisionError, OverflowError):
        return math.copysign(math.inf, x if power % 2 == 1 else 1)


def _of(function: Callable[[Value], Value], x: Any) -> Any:
    """Applies a function of Values to a Value or a float."""
    return function(x) if isinstance(x, Value) else function(Value(x)).data


def _total(term: Any) -> Callable[[list[Any]], Any]:
    """A function that sums such terms from left to right; `sum` of floats is compensated since 3.12."""
    return sum if isinstance(term, Value) else lambda terms: reduce(add, terms, 0)
