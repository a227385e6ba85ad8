"""The operations that every engine has, in pure Python."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from math import isnan, nan
from typing import Any, TypeAlias

from microgpt.core import exact
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
from microgpt.vector import kernels as of
from microgpt.vector.node import Node

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]


class Primitives(Engine):
    """Each matrix is a node of the graph; weights are its leaves."""

    arithmetic = "exact"

    def parameter(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return Node(self, [list(row) for row in rows], leaf=True)

    def constant(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return Node(self, [list(row) for row in rows])

    def detached(self, x: Matrix) -> Matrix:
        return Node(self, x.rows)

    def values(self, x: Matrix) -> Rows:
        return [list(row) for row in x.rows]

    def shape(self, x: Matrix) -> tuple[int, int]:
        return len(x.rows), len(x.rows[0])

    def backward(self, loss: Matrix) -> None:
        check_loss(self.shape(loss), loss.traced)
        loss.grad, pending = [[1.0]], {loss.number: loss}
        while pending:  # in reverse order of creation, so that a node's gradient is complete
            node = pending.pop(max(pending))
            if node.back is not None:
                for child, grad in zip(node.inputs, node.back(node.grad)):
                    if child.traced:
                        child.grad = grad if child.grad is None else of.plus(child.grad, grad)
                        pending[child.number] = child
                node.grad = None

    def gradients(self, weights: Weights) -> dict[str, Matrix]:
        grads = {
            n: Node(self, w.grad or [[0.0] * len(r) for r in w.rows]) for n, w in weights.items()
        }
        for w in weights.values():
            w.grad = None
        return grads

    def assign(self, target: Matrix, source: Matrix) -> None:
        rows = source.rows
        if target.rows is not rows:  # copy, since `adam` modifies rows in place
            check_same(self.shape(target), self.shape(source))
            rows = [list(row) for row in rows]
        target.renew(rows)

    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        return {name: list(chain.from_iterable(x.rows)) for name, x in matrices.items()}

    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        for name, x in matrices.items():
            numbers, n = flat[name], len(x.rows[0])
            check_numbers(self.shape(x), len(numbers))
            x.renew([numbers[i : i + n] for i in range(0, len(numbers), n)])

    # Rows and columns

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_ids(ids, len(x.rows))

        def back(grad: Rows) -> Iterable[Rows]:
            out = [[0.0] * len(x.rows[0])] * len(x.rows)
            for i, g in zip(ids, grad):
                out[i] = [p + q for p, q in zip(out[i], g)]
            return (out,)

        return Node(self, [x.rows[i] for i in ids], (x,), back)

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        check_widths(self.shape(x) for x in xs)

        def back(grad: Rows) -> Iterable[Rows]:
            rest = iter(grad)
            return [[next(rest) for _ in x.rows] for x in xs]

        return Node(self, [row for x in xs for row in x.rows], xs, back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        check_range(self.shape(x), start, stop)
        return self.transpose(self.gather(self.transpose(x), range(start, stop)))

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows(self.shape(x) for x in xs)
        return self.transpose(self.concat_rows([self.transpose(x) for x in xs]))

    def transpose(self, x: Matrix) -> Matrix:
        return Node(self, x.columns(), (x,), lambda grad: (of.transposed(grad),))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_count(self.shape(x), ids)
        check_ids(ids, len(x.rows[0]))
        zeros = [0.0] * len(x.rows[0])

        def back(grad: Rows) -> Iterable[Rows]:
            return ([zeros[:i] + g + zeros[i + 1 :] for i, g in zip(ids, grad)],)

        return Node(self, [[row[i]] for row, i in zip(x.rows, ids)], (x,), back)

    # Arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return Node(self, [[x + b for x in row] for row in a.rows], (a,), lambda grad: (grad,))
        rows = of.plus(a.rows, _like(a, b))
        return Node(self, rows, (a, b), lambda grad: (grad, _folded(grad, b)))

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            factor = repeat(b)
            return Node(
                self, of.scaled(a.rows, factor), (a,), lambda grad: (of.scaled(grad, factor),)
            )
        rows, others = a.rows, _like(a, b)

        def back(grad: Rows) -> Iterable[Rows]:
            return of.times(grad, others), _folded(of.times(grad, rows), b)

        return Node(self, of.times(rows, others), (a, b), back)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        others = _like(a, b) if isinstance(b, Node) else [[b] * len(row) for row in a.rows]
        out = of.quotients(a.rows, others)

        def back(grad: Rows) -> Iterable[Rows]:  # g / b, -(g (a / b)) / b
            over = of.quotients(grad, others)
            if not isinstance(b, Node):
                return (over,)
            return over, _folded(of.scaled(of.times(over, out), repeat(-1.0)), b)

        return Node(self, out, (a, b) if isinstance(b, Node) else (a,), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        # After a ReLU nine in ten numbers are 0, in x and in the gradient of the ReLU's input.
        # Skipping products with 0 saves a quarter of a step.
        if len(x.rows[0]) != len(w.rows[0]):
            check_columns(self.shape(x), self.shape(w))
        few = of.is_thin(x.rows) and w.is_finite()
        rows = of.thin(x.rows, w.columns()) if few else of.nt(x.rows, w.rows)
        if not (x.traced or w.traced):
            return Node(self, rows)

        def back(grad: Rows) -> Iterable[Rows]:
            if of.is_thin(grad):
                return of.thin(grad, w.rows), of.thin(of.transposed(grad), x.rows)
            gated = few and x.gated
            dx = of.nt_where(x.rows, grad, w.columns()) if gated else of.nt(grad, w.columns())
            if few:
                return dx, of.transposed(of.thin(x.columns(), grad))
            return dx, of.nt(of.transposed(grad), x.columns())

        return Node(self, rows, (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        n = len(x.rows[0])
        return Node(
            self, [[of.total(r)] for r in x.rows], (x,), lambda grad: ([g * n for g in grad],)
        )

    def row_max(self, x: Matrix) -> Matrix:
        return Node(self, [[nan if any(map(isnan, row)) else max(row)] for row in x.rows])

    def sign(self, x: Matrix) -> Matrix:
        return Node(self, [[of.sign(a) for a in row] for row in x.rows])

    def relu(self, x: Matrix) -> Matrix:
        out = [[0.0 if a <= 0 else a for a in row] for row in x.rows]  # nan stays nan

        def back(grad: Rows) -> Iterable[Rows]:
            return ([[g if a else 0.0 for g, a in zip(p, q)] for p, q in zip(grad, out)],)

        node = Node(self, out, (x,), back)
        node.gated = True
        return node

    def exp(self, x: Matrix) -> Matrix:
        return _each(self, x, exact.exp, lambda a, out: out)

    def log(self, x: Matrix) -> Matrix:
        return _each(self, x, exact.log, lambda a, out: of.quotient(1.0, a))

    def tanh(self, x: Matrix) -> Matrix:
        return _each(self, x, exact.tanh, lambda a, out: 1 - out * out)

    def pow(self, x: Matrix, power: float) -> Matrix:
        slope = lambda a, out: power * exact.pow(a, power - 1)  # noqa: E731
        return _each(self, x, lambda a: exact.pow(a, power), slope)


def _each(
    ops: Engine,
    x: Node,
    function: Callable[[float], float],
    slope: Callable[[float, float], float],
) -> Node:
    """Applies a function elementwise; `slope` is its derivative, given argument and result."""
    out = [[function(a) for a in row] for row in x.rows]

    def back(grad: Rows) -> Iterable[Rows]:
        slopes = [[slope(a, b) for a, b in zip(p, q)] for p, q in zip(x.rows, out)]
        return (of.times(grad, slopes),)

    return Node(ops, out, (x,), back)


def _like(a: Node, b: Node) -> Rows:
    """The rows of b, broadcast to the shape of a."""
    rows, height, n = b.rows, len(a.rows), len(a.rows[0])
    if len(rows) != height or len(rows[0]) != n:
        check_operand((height, n), (len(rows), len(rows[0])))
        rows = [row * n for row in rows] if len(rows[0]) < n else rows
        rows = rows * height if len(rows) < height else rows
    return rows


def _folded(grad: Rows, b: Node) -> Rows:
    """A gradient summed to the shape of b, which was broadcast."""
    if len(b.rows) < len(grad):
        grad = [[of.total(column) for column in zip(*grad)]]
    return grad if len(b.rows[0]) == len(grad[0]) else [[of.total(row)] for row in grad]
