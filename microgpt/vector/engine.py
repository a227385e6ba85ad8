"""The vector engine: pure Python, where each matrix is a node of the graph.

Results have the same bits on every machine with IEEE 754 doubles: all numbers come from `+ - * /`,
square roots and `core.exact`. The operations that dominate a training step are fused, forward and
backward; `base` defines what they compute.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from math import sqrt
from typing import Any, TypeAlias

from microgpt.core import exact
from microgpt.core.engine.shapes import (
    Bias,
    Rows,
    Spans,
    check_bias,
    check_count,
    check_ids,
)
from microgpt.vector import kernels as of
from microgpt.vector.node import Node
from microgpt.vector.primitives import Primitives

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix


class VectorEngine(Primitives):
    """The pure-Python engine, with what dominates a training step fused."""

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
