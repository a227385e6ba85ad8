"""The fast engine of the standard library: one matrix, one node.

It computes what the scalar engine does, with the same bits on every machine with IEEE-754 doubles:
all numbers come from `+ - * /`, square roots and `exact`. The operations that a training step spends
its time in are fused, forward and backward; their derived forms in `base` say what they compute.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from math import sqrt
from typing import TypeAlias

from microgpt.core import exact
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans
from microgpt.core.engine.kernels import (
    dots,
    for_heads,
    is_thin,
    nt,
    nt_where,
    plus,
    power_of,
    scaled,
    softmax,
    softmax_back,
    thin,
    times,
    total,
    transposed,
)

Back: TypeAlias = Callable[[Rows], Iterable[Rows]]
Weights: TypeAlias = Sequence[Sequence[Sequence[float]]]  # of attention, for each row of queries

_numbers = count()


class Node:
    """A matrix, the nodes that it was computed from, and how its gradient becomes theirs.

    Rows are never changed once they stand in a node: so nodes, gradients and caches may share them.
    `back` is given the gradient and not the node, which would be a reference cycle. A node is
    `gated` if no gradient goes through its zeros. Nothing is kept of a constant's origin.
    """

    __slots__ = ("back", "gated", "grad", "inputs", "number", "rows", "traced")

    def __init__(
        self,
        rows: Rows,
        inputs: tuple["Node", ...] = (),
        back: Back | None = None,
        *,
        gated: bool = False,
        leaf: bool = False,
    ) -> None:
        self.rows, self.gated = rows, gated
        self.grad: Rows | None = None
        self.traced: bool = leaf or any(node.traced for node in inputs)
        if self.traced:
            self.number, self.inputs, self.back = next(_numbers), inputs, back


class VectorEngine(Engine):
    """A matrix is a node; weights are the leaves of the tape."""

    def parameter(self, rows: Rows) -> Matrix:
        return Node([list(row) for row in rows], leaf=True)

    def constant(self, rows: Rows) -> Matrix:
        return Node([list(row) for row in rows])

    def frozen(self, weights: Mapping[str, Matrix]) -> Mapping[str, Matrix]:
        return {name: Node(w.rows) for name, w in weights.items()}

    def values(self, x: Matrix) -> Rows:
        return [list(row) for row in x.rows]

    def shape(self, x: Matrix) -> tuple[int, int]:
        return len(x.rows), len(x.rows[0])

    def backward(self, loss: Matrix) -> None:
        loss.grad = [[1.0]]
        pending = {loss.number: loss}
        while pending:  # the youngest first: all that was computed from it is done
            node = pending.pop(max(pending))
            if node.back is None:
                continue
            for child, grad in zip(node.inputs, node.back(node.grad)):
                if child.traced:
                    child.grad = grad if child.grad is None else plus(child.grad, grad)
                    pending[child.number] = child
            node.grad = None

    def gradients(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        flat = {}
        for name, w in weights.items():
            flat[name] = _flat(scaled(w.rows, 0.0) if w.grad is None else w.grad)
            w.grad = None
        return flat

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: _flat(w.rows) for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            numbers, n = flat[name], len(w.rows[0])
            w.rows = [numbers[i : i + n] for i in range(0, len(numbers), n)]

    # Rows and columns

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        rows = x.rows

        def back(grad: Rows) -> Iterable[Rows]:
            out = [[0.0] * len(rows[0])] * len(rows)
            for i, g in zip(ids, grad):
                out[i] = [p + q for p, q in zip(out[i], g)]
            return (out,)

        return Node([rows[i] for i in ids], (x,), back)

    def stack(self, xs: Sequence[Matrix]) -> Matrix:
        def back(grad: Rows) -> Iterable[Rows]:
            rest = iter(grad)
            return [[next(rest) for _ in x.rows] for x in xs]

        return Node([row for x in xs for row in x.rows], tuple(xs), back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        left, right = [0.0] * start, [0.0] * (len(x.rows[0]) - stop)
        out = [row[start:stop] for row in x.rows]
        return Node(out, (x,), lambda grad: ([left + g + right for g in grad],))

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        return self.transpose(self.stack([self.transpose(x) for x in xs]))

    def transpose(self, x: Matrix) -> Matrix:
        return Node(transposed(x.rows), (x,), lambda grad: (transposed(grad),))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        zeros = [0.0] * len(x.rows[0])

        def back(grad: Rows) -> Iterable[Rows]:
            return ([zeros[:i] + g + zeros[i + 1 :] for i, g in zip(ids, grad)],)

        return Node([[row[i]] for row, i in zip(x.rows, ids)], (x,), back)

    # Arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return Node([[x + b for x in row] for row in a.rows], (a,), lambda grad: (grad,))
        return Node(plus(a.rows, _like(a, b)), (a, b), lambda grad: (grad, _folded(grad, b)))

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return Node(scaled(a.rows, b), (a,), lambda grad: (scaled(grad, b),))
        rows, others = a.rows, _like(a, b)

        def back(grad: Rows) -> Iterable[Rows]:
            return times(grad, others), _folded(times(grad, rows), b)

        return Node(times(rows, others), (a, b), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        # Behind a ReLU soon nine numbers in ten are 0, in x and in the gradient of what goes into it:
        # the products without them take a third off a whole step.
        rows, weight, gated, few = x.rows, w.rows, x.gated, is_thin(x.rows)

        def back(grad: Rows) -> Iterable[Rows]:
            if is_thin(grad):
                return thin(grad, weight), thin(transposed(grad), rows)
            columns = transposed(weight)
            dx = nt_where(rows, grad, columns) if few and gated else nt(grad, columns)
            if few:
                return dx, transposed(thin(transposed(rows), grad))
            return dx, nt(transposed(grad), transposed(rows))

        return Node(thin(rows, transposed(weight)) if few else nt(rows, weight), (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        n = len(x.rows[0])
        return Node([[total(row)] for row in x.rows], (x,), lambda grad: ([g * n for g in grad],))

    def row_max(self, x: Matrix) -> Matrix:
        return Node([[max(row)] for row in x.rows])

    def relu(self, x: Matrix) -> Matrix:
        out = [[a if a > 0 else 0.0 for a in row] for row in x.rows]

        def back(grad: Rows) -> Iterable[Rows]:
            return ([[g if a else 0.0 for g, a in zip(p, q)] for p, q in zip(grad, out)],)

        return Node(out, (x,), back, gated=True)

    def exp(self, x: Matrix) -> Matrix:
        out = [[exact.exp(a) for a in row] for row in x.rows]
        return Node(out, (x,), lambda grad: (times(grad, out),))

    def log(self, x: Matrix) -> Matrix:
        rows = x.rows

        def back(grad: Rows) -> Iterable[Rows]:
            return ([[g / a for g, a in zip(p, q)] for p, q in zip(grad, rows)],)

        return Node([[exact.log(a) for a in row] for row in rows], (x,), back)

    def tanh(self, x: Matrix) -> Matrix:
        out = [[exact.tanh(a) for a in row] for row in x.rows]

        def back(grad: Rows) -> Iterable[Rows]:
            return (times(grad, [[1 - a * a for a in row] for row in out]),)

        return Node(out, (x,), back)

    def pow(self, x: Matrix, power: float) -> Matrix:
        rows = x.rows

        def back(grad: Rows) -> Iterable[Rows]:
            return (times(grad, [[power * power_of(a, power - 1) for a in row] for row in rows]),)

        return Node([[power_of(a, power) for a in row] for row in rows], (x,), back)

    # Fused

    def softmax(self, x: Matrix) -> Matrix:
        out = [softmax(row) for row in x.rows]
        return Node(out, (x,), lambda grad: ([softmax_back(p, g) for p, g in zip(out, grad)],))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        rows, n = x.rows, len(x.rows[0])
        scales = [1 / sqrt(square / n + eps) for square in dots(rows, rows)]
        out = [[a * scale for a in row] for row, scale in zip(rows, scales)]

        def back(grad: Rows) -> Iterable[Rows]:  # (g - y mean(g y)) / sqrt(mean(x^2) + eps)
            means = [dot / n for dot in dots(grad, out)]
            parts = zip(grad, out, means, scales)
            return ([[s * (g - y * m) for g, y in zip(p, q)] for p, q, m, s in parts],)

        return Node(out, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probs = [softmax(row) for row in logits.rows]

        def back(grad: Rows) -> Iterable[Rows]:  # g (probs - 1 at the target)
            out = scaled(probs, 1.0)
            for row, target in zip(out, targets):
                row[target] -= 1.0
            return ([[x * g for x in row] for row, (g,) in zip(out, grad)],)

        losses = [[-exact.log(row[target])] for row, target in zip(probs, targets)]
        return Node(losses, (logits,), back)

    def attention(
        self,
        q: Matrix,
        k: Matrix,
        v: Matrix,
        *,
        n_head: int,
        spans: Spans,
        bias: Sequence[Sequence[float]] | None = None,
    ) -> Matrix:
        n_key, width, kv_width = len(k.rows), len(q.rows[0]), len(k.rows[0])
        cached, size = n_key - len(q.rows), width // n_head
        scale = 1 / sqrt(size)
        scores, mixed, spread = for_heads(n_head, size, width // kv_width)
        out: Rows = []
        kept = []
        for start, stop in spans:
            first = max(start, cached)
            if first < stop:
                own, seen = slice(first - cached, stop - cached), slice(start, stop)
                queries, keys, values = scaled(q.rows[own], scale), k.rows[seen], v.rows[seen]
                probs = [_probs(row, bias) for row in scores(queries, keys, first - start)]
                out += mixed(_by_key(probs), values)
                kept.append((own, seen, queries, keys, values, probs))

        def back(grad: Rows) -> Iterable[Rows]:
            dq: Rows = []
            dk, dv = [[0.0] * kv_width] * n_key, [[0.0] * kv_width] * n_key
            for own, seen, queries, keys, values, probs in kept:
                before, d_out = len(keys) - len(queries), grad[own]
                pairs = zip(probs, scores(d_out, values, before))
                d_scores = _by_key([list(map(softmax_back, p, zip(*g))) for p, g in pairs])
                dq += scaled(mixed(d_scores, keys), scale)
                dk[seen] = spread(d_scores, queries, before)
                dv[seen] = spread(_by_key(probs), d_out, before)
            return dq, dk, dv

        return Node(out, (q, k, v), back)


def _probs(
    scores: Sequence[Sequence[float]], bias: Sequence[Sequence[float]] | None
) -> list[list[float]]:
    """One row's scores `[s][n_head]` as probabilities `[n_head][s]`."""
    rows: Iterable[Sequence[float]] = zip(*scores)
    if bias is not None:
        rows = [
            [x + b for x, b in zip(row, far[len(row) - 1 :: -1])] for row, far in zip(rows, bias)
        ]
    return [softmax(row) for row in rows]


def _by_key(weights: Weights) -> Weights:
    """`[t][n_head][s] -> [t][s][n_head]`, as the kernels read them."""
    return [list(zip(*row)) for row in weights]


def _flat(rows: Rows) -> list[float]:
    return list(chain.from_iterable(rows))


def _like(a: Node, b: Node) -> Rows:
    """The rows of b, one row or one column repeated to the shape of a."""
    rows, n = b.rows, len(a.rows[0])
    if len(rows[0]) < n:
        rows = [row * n for row in rows]
    return rows * len(a.rows) if len(rows) < len(a.rows) else rows


def _folded(grad: Rows, b: Node) -> Rows:
    """A gradient summed to the shape of b, which was repeated."""
    if len(b.rows) < len(grad):
        grad = [[total(column) for column in zip(*grad)]]
    return grad if len(b.rows[0]) == len(grad[0]) else [[total(row)] for row in grad]
