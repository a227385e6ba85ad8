"""The fast engine of the standard library: one matrix, one node.

It computes what the scalar engine does, with the same bits on every machine with IEEE-754 doubles:
all numbers come from `+ - * /`, square roots and `exact`. The operations that a training step spends
its time in are fused, forward and backward; their derived forms in `base` say what they compute.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, count
from math import sqrt

from microgpt.core import exact
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans
from microgpt.core.engine.kernels import (
    dots,
    nt,
    plus,
    scaled,
    times,
    total,
    transposed,
)
from microgpt.core.optim.adam import power as product

_numbers = count()


class Node:
    """A matrix, the nodes that it was computed from, and how its gradient becomes theirs.

    Rows are never changed once they stand in a node: so nodes, gradients and caches may share them.
    `back` takes the gradient as an argument and not from the node, or each node would be a cycle.
    """

    __slots__ = ("back", "grad", "inputs", "number", "rows", "traced")

    def __init__(
        self,
        rows: Rows,
        inputs: tuple["Node", ...] = (),
        back: Callable[[Rows], Iterable[Rows]] | None = None,
        traced: bool = False,
    ) -> None:
        self.rows = rows
        self.grad: Rows | None = None
        self.traced = traced or any(node.traced for node in inputs)
        if self.traced:  # of a constant, and all that comes of constants, no tape is kept
            self.number, self.inputs, self.back = next(_numbers), inputs, back


class VectorEngine(Engine):
    """A matrix is a node; weights are the leaves of the tape."""

    def parameter(self, rows: Rows) -> Matrix:
        return Node([list(row) for row in rows], traced=True)

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
            flat[name] = [0.0] * (len(w.rows) * len(w.rows[0])) if w.grad is None else _flat(w.grad)
            w.grad = None
        return flat

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: _flat(w.rows) for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            numbers, n = flat[name], len(w.rows[0])
            w.rows = [numbers[i : i + n] for i in range(0, len(numbers), n)]

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
        return Node(
            [row[start:stop] for row in x.rows],
            (x,),
            lambda grad: ([left + g + right for g in grad],),
        )

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        stacked = self.stack([self.transpose(x) for x in xs])
        return self.transpose(stacked)

    def transpose(self, x: Matrix) -> Matrix:
        return Node(transposed(x.rows), (x,), lambda grad: (transposed(grad),))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        n = len(x.rows[0])
        return Node(
            [[row[i]] for row, i in zip(x.rows, ids)],
            (x,),
            lambda grad: ([[0.0] * i + g + [0.0] * (n - i - 1) for i, g in zip(ids, grad)],),
        )

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return Node([[x + b for x in row] for row in a.rows], (a,), lambda grad: (grad,))
        return Node(plus(a.rows, _like(a, b)), (a, b), lambda grad: (grad, _folded(grad, b)))

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return Node(scaled(a.rows, b), (a,), lambda grad: (scaled(grad, b),))
        rows, others = a.rows, _like(a, b)
        return Node(
            times(rows, others),
            (a, b),
            lambda grad: (times(grad, others), _folded(times(grad, rows), b)),
        )

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        rows, weight = x.rows, w.rows
        return Node(
            nt(rows, weight),
            (x, w),
            lambda grad: (nt(grad, transposed(weight)), nt(transposed(grad), transposed(rows))),
        )

    def row_sum(self, x: Matrix) -> Matrix:
        n = len(x.rows[0])
        rows = [[total(row)] for row in x.rows]
        return Node(rows, (x,), lambda grad: ([g * n for g in grad],))

    def row_max(self, x: Matrix) -> Matrix:
        return Node([[max(row)] for row in x.rows])

    def relu(self, x: Matrix) -> Matrix:
        out = [[a if a > 0 else 0.0 for a in row] for row in x.rows]

        def back(grad: Rows) -> Iterable[Rows]:
            return ([[g if a > 0 else 0.0 for g, a in zip(p, q)] for p, q in zip(grad, out)],)

        return Node(out, (x,), back)

    def exp(self, x: Matrix) -> Matrix:
        out = [[exact.exp(a) for a in row] for row in x.rows]
        return Node(out, (x,), lambda grad: (times(grad, out),))

    def log(self, x: Matrix) -> Matrix:
        rows = x.rows
        return Node(
            [[exact.log(a) for a in row] for row in rows],
            (x,),
            lambda grad: ([[g / a for g, a in zip(p, q)] for p, q in zip(grad, rows)],),
        )

    def tanh(self, x: Matrix) -> Matrix:
        out = [[exact.tanh(a) for a in row] for row in x.rows]
        return Node(
            out, (x,), lambda grad: (times(grad, [[1 - a * a for a in row] for row in out]),)
        )

    def pow(self, x: Matrix, power: float) -> Matrix:
        rows = x.rows

        def back(grad: Rows) -> Iterable[Rows]:
            return (times(grad, [[power * _power(a, power - 1) for a in row] for row in rows]),)

        return Node([[_power(a, power) for a in row] for row in rows], (x,), back)

    # Fused

    def softmax(self, x: Matrix) -> Matrix:
        out = [_softmax(row) for row in x.rows]
        return Node(out, (x,), lambda grad: (_softmax_back(out, grad),))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        rows = x.rows
        n = len(rows[0])
        scales = [1 / sqrt(square / n + eps) for square in dots(rows, rows)]
        out = [[a * scale for a in row] for row, scale in zip(rows, scales)]

        def back(grad: Rows) -> Iterable[Rows]:  # (g - y mean(g y)) / sqrt(mean(x^2) + eps)
            means = [dot / n for dot in dots(grad, out)]
            parts = zip(grad, out, means, scales)
            return ([[s * (g - y * m) for g, y in zip(p, q)] for p, q, m, s in parts],)

        return Node(out, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probs = [_softmax(row) for row in logits.rows]

        def back(grad: Rows) -> Iterable[Rows]:  # g (probs - 1 at the target)
            out = []
            for row, target, (g,) in zip(probs, targets, grad):
                scores = [p * g for p in row]
                scores[target] -= g
                out.append(scores)
            return (out,)

        return Node([[-exact.log(row[i])] for row, i in zip(probs, targets)], (logits,), back)

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
        cached = len(k.rows) - len(q.rows)
        size = len(q.rows[0]) // n_head
        scale = 1 / sqrt(size)
        share = n_head * size // len(k.rows[0])
        heads = [
            (slice(h * size, (h + 1) * size), slice(h // share * size, (h // share + 1) * size))
            for h in range(n_head)
        ]
        out, kept = [], []
        for start, stop in spans:
            first = max(start, cached)
            if first >= stop:
                continue
            # Columns outside: a head is then a slice of rows, and its rows are its transpose.
            queries = transposed(scaled(q.rows[first - cached : stop - cached], scale))
            keys, values = transposed(k.rows[start:stop]), transposed(v.rows[start:stop])
            probs = []
            mixed = []
            for h, (own, shared) in enumerate(heads):
                scores = nt(transposed(queries[own]), transposed(keys[shared]))
                probs.append(_causal(scores, first - start, bias[h] if bias else None))
                mixed += nt(values[shared], probs[h])
            out += transposed(mixed)
            kept.append((start, first - cached, queries, keys, values, probs))

        def back(grad: Rows) -> Iterable[Rows]:
            dq = []
            dk = [[0.0] * len(k.rows[0])] * len(k.rows)
            dv = list(dk)
            for start, first, queries, keys, values, probs in kept:
                stop = first + len(queries[0])
                d_out = transposed(grad[first:stop])
                d_queries: Rows = []
                d_keys: Rows = []
                d_values: Rows = []
                for (own, shared), p in zip(heads, probs):
                    d_probs = nt(transposed(d_out[own]), transposed(values[shared]))
                    d_scores = _softmax_back(p, d_probs)
                    d_queries += nt(keys[shared], d_scores)
                    _append(d_keys, nt(queries[own], transposed(d_scores)), shared.start)
                    _append(d_values, nt(d_out[own], transposed(p)), shared.start)
                dq += scaled(transposed(d_queries), scale)
                dk[start : start + len(keys[0])] = transposed(d_keys)
                dv[start : start + len(keys[0])] = transposed(d_values)
            return dq, dk, dv

        return Node(out, (q, k, v), back)


def _append(rows: Rows, more: Rows, at: int) -> None:
    """Put `more` at row `at`, or add it to what stands there: heads may share keys and values."""
    rows[at:] = plus(rows[at:], more) if len(rows) > at else more


def _causal(scores: Rows, before: int, bias: Sequence[float] | None) -> Rows:
    """Row t of the scores `[T][S]` as probabilities of its first `before + t + 1` keys, then 0."""
    n = len(scores[0])
    out = []
    for seen, row in enumerate(scores, before + 1):
        row = row[:seen]
        if bias is not None:
            row = [x + b for x, b in zip(row, reversed(bias[:seen]))]
        out.append(_softmax(row) + [0.0] * (n - seen))
    return out


def _softmax(row: list[float]) -> list[float]:
    """exp(x) / sum(exp(x)), with the maximum taken off first."""
    top, exp = max(row), exact.exp
    exps = [exp(x - top) for x in row]
    scale = 1 / total(exps)
    return [x * scale for x in exps]


def _softmax_back(probs: Rows, grad: Rows) -> Rows:
    """p (g - sum(p g)) a row."""
    parts = zip(probs, grad, dots(probs, grad))
    return [[p * (g - mean) for p, g in zip(ps, gs)] for ps, gs, mean in parts]


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


def _power(x: float, power: float) -> float:
    """x to a constant power, from exact operations where it is a multiple of a half."""
    if power < 0:
        return 1 / _power(x, -power)
    if (2 * power).is_integer():
        whole = product(x, int(power))
        return whole if float(power).is_integer() else sqrt(x) * whole
    return exact.exp(power * exact.log(x))
