"""The vector engine: pure Python, where each matrix is a node of the graph.

Results have the same bits on every machine with IEEE 754 doubles: all numbers come from `+ - * /`,
square roots and `core.exact`. The operations that dominate a training step are fused, forward and
backward; `base` defines what they compute.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count, repeat
from math import isfinite, isnan, nan, sqrt
from typing import Any, TypeAlias

from microgpt.core import exact
from microgpt.core.engine import base
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import (
    Bias,
    Rows,
    Spans,
    check_bias,
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

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]
Back: TypeAlias = Callable[[Rows], Iterable[Rows]]

_numbers = count()


class Node(base.Matrix):
    """A matrix, its inputs in the graph, and its backward function.

    The rows of a node are not modified, except by `adam` when nothing else uses them, so nodes,
    gradients and caches may share rows. `back` receives the gradient, not the node, which would be
    a reference cycle. A node is `gated` if its zeros pass no gradient. Constants keep no inputs.
    """

    __slots__ = (
        *("back", "finite", "gated", "grad", "inputs", "number", "ops", "rows", "traced", "turned"),
    )

    def __init__(
        self,
        ops: Engine,
        rows: Rows,
        inputs: Sequence["Node"] = (),
        back: Back | None = None,
        leaf: bool = False,
    ) -> None:
        self.ops, self.rows, self.gated = ops, rows, False
        self.grad: Rows | None = None
        self.turned: Rows | None = None  # the transpose, computed on demand
        self.finite: bool | None = None  # whether all numbers are finite, computed on demand
        for node in inputs:  # faster than `any`; a sampled token makes 20 nodes
            if node.traced:
                leaf = True
        self.traced: bool = leaf
        if leaf:
            self.number, self.inputs, self.back = next(_numbers), inputs, back

    def columns(self) -> Rows:
        """The transpose, cached for several products."""
        self.turned = self.turned or of.transposed(self.rows)
        return self.turned

    def is_finite(self) -> bool:
        """Whether all numbers are finite, so that 0 times any of them is 0."""
        if self.finite is None:
            self.finite = isfinite(sum(map(sum, self.rows)))
        return self.finite

    def renew(self, rows: Rows) -> None:
        """Replaces the values."""
        self.rows, self.turned, self.finite = rows, None, None


class VectorEngine(Engine):
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

    # Fused

    def softmax(self, x: Matrix) -> Matrix:
        out = [of.softmax(row) for row in x.rows]
        return Node(self, out, (x,), lambda grad: (list(map(of.softmax_back, out, grad)),))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        n = len(x.rows[0])
        scales = [1 / sqrt(square / n + eps) for square in of.dots(x.rows, x.rows)]
        out = of.scaled(x.rows, scales)
        if not x.traced:
            return Node(self, out)

        def back(grad: Rows) -> Iterable[Rows]:  # (g - y mean(g y)) / sqrt(mean(x^2) + eps)
            means = [dot / n for dot in of.dots(grad, out)]
            parts = zip(grad, out, means, scales)
            return ([[s * (g - y * m) for g, y in zip(p, q)] for p, q, m, s in parts],)

        return Node(self, out, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        check_count(self.shape(logits), targets)
        check_ids(targets, len(logits.rows[0]))
        probs = [of.softmax(row) for row in logits.rows]

        def back(grad: Rows) -> Iterable[Rows]:  # g (probs - 1 at the target)
            out = [list(row) for row in probs]
            for row, target in zip(out, targets):
                row[target] -= 1.0
            return (of.scaled(out, (g for (g,) in grad)),)

        losses = [[-exact.log(row[target])] for row, target in zip(probs, targets)]
        return Node(self, losses, (logits,), back)

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
        n_key, width, kv_width = len(k.rows), len(q.rows[0]), len(k.rows[0])
        cached, size = n_key - len(q.rows), width // n_head
        check_bias(bias, n_head, spans)
        factor = repeat(1 / sqrt(size) if scale is None else scale)
        products, sums, sums_back = of.for_heads(n_head, size, width // kv_width)
        if len(q.rows) == 1 and not (q.traced or k.traced or v.traced):  # sampling: no graph
            seen = slice(spans[-1][0], None)
            (scores,) = products(zip(of.scaled(q.rows, factor), [k.rows[seen]]))
            return Node(self, sums([zip(zip(*_probs(scores, bias)), v.rows[seen])]))
        out: Rows = []
        kept = []
        for start, stop in spans:
            first = max(start, cached)
            if first < stop:
                own, seen = slice(first - cached, stop - cached), slice(start, stop)
                queries, keys, values = of.scaled(q.rows[own], factor), k.rows[seen], v.rows[seen]
                scores = products(_causal(queries, keys))
                probs = [_probs(row, bias) for row in scores]
                out += sums(map(zip, _by_key(probs), repeat(values)))
                kept.append((own, seen, queries, keys, values, probs))

        def back(grad: Rows) -> Iterable[Rows]:
            dq: Rows = []
            dk, dv = [[0.0] * kv_width] * n_key, [[0.0] * kv_width] * n_key
            for own, seen, queries, keys, values, probs in kept:
                pairs = zip(probs, products(_causal(grad[own], values)))
                d_scores = _by_key([list(map(of.softmax_back, p, zip(*g))) for p, g in pairs])
                dq += of.scaled(sums(map(zip, d_scores, repeat(keys))), factor)
                dk[seen] = sums_back(_by_query(d_scores, queries))
                dv[seen] = sums_back(_by_query(_by_key(probs), grad[own]))
            return dq, dk, dv

        return Node(self, out, (q, k, v), back)

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
        of.adam(p.rows, g.rows, m.rows, v.rows, beta1, beta2, rate, eps)
        return p, m, v


def _causal(queries: Rows, keys: Rows) -> Iterable[tuple[list[float], Rows]]:
    """Each query with the keys that it attends to; the last query and key have the same position."""
    return ((q, keys[:seen]) for seen, q in enumerate(queries, 1 + len(keys) - len(queries)))


def _probs(scores: Sequence[Sequence[float]], bias: Bias) -> list[list[float]]:
    """The softmax of one query's scores: `[s][n_head] -> [n_head][s]`."""
    rows: Iterable[Sequence[float]] = zip(*scores)
    if bias is not None:
        rows = [
            [x + b for x, b in zip(row, far[len(row) - 1 :: -1])] for row, far in zip(rows, bias)
        ]
    return list(map(of.softmax, rows))


def _by_key(weights: Iterable[Iterable[Iterable[float]]]) -> list[list[tuple[float, ...]]]:
    """`[t][n_head][s] -> [t][s][n_head]`, the layout of the kernels."""
    return [list(zip(*row)) for row in weights]


def _by_query(weights: list[list[tuple[float, ...]]], rows: Rows) -> Iterable[Iterable[object]]:
    """For each key, the pairs (weight, row) of the queries that attend to it."""
    before = len(weights[-1]) - len(weights)
    for s in range(len(weights[-1])):
        first = max(s - before, 0)
        yield zip([row[s] for row in weights[first:]], rows[first:])


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
