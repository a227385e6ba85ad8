"""The NumPy engine: fused operations, forward and backward."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from microgpt.accelerate.arrays import (
    Padding,
    distance,
    exp_rows,
    full,
    indices,
    number,
    one_hot,
    seen,
    summing,
)
from microgpt.accelerate.node import Array, Node, node
from microgpt.accelerate.primitives import Primitives
from microgpt.core.engine.shapes import (
    Bias,
    Spans,
    check_bias,
    check_count,
    check_ids,
)

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix


class NumpyEngine(Primitives):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self._scratches: dict[tuple[int, int], Array] = {}
        self._paddings: dict[tuple[tuple[int, int], ...], Padding] = {}

    def mean(self, x: Matrix) -> Matrix:
        share = full(x.data.shape[0], 1, 1 / x.data.shape[0], self.dtype)
        return node(self, share.T.dot(x.data), (x,), lambda grad: x.give(share.dot(grad)))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        mean = summing(x.data.shape, 1 / x.data.shape[1], self.dtype)  # x @ mean is each row's mean
        root = (x.data * x.data).dot(mean)
        root += number(eps, self.dtype)
        np.sqrt(root, root)
        y = x.data / root

        def back(grad: Array) -> None:
            # dx = (dy - y mean(dy y)) / root
            dx = y * (grad * y).dot(mean)
            np.subtract(grad, dx, dx)
            dx /= root
            x.give(dx)

        return node(self, y, (x,), back)

    def softmax(self, x: Matrix) -> Matrix:
        probs = exp_rows(x.data)
        ones = summing(probs.shape, 1, self.dtype)
        probs /= probs.dot(ones)

        def back(grad: Array) -> None:
            dx = grad * probs
            dx -= probs * dx.dot(ones)
            x.give(dx)

        return node(self, probs, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        rows, n = logits.data.shape
        if len(targets) != rows:
            check_count((rows, n), targets)
        try:  # as in `gather`
            hot = one_hot(indices(targets), n, self.dtype)
        except (IndexError, OverflowError):
            check_ids(targets, n)
            raise
        probs = exp_rows(logits.data)
        probs /= probs.dot(summing(probs.shape, 1, self.dtype))
        loss = np.log((probs * hot).dot(full(n, 1, 1, self.dtype)))

        def back(grad: Array) -> None:
            dx = probs - hot
            dx *= grad
            logits.give(dx)

        return node(self, np.negative(loss, loss), (logits,), back)

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
        (n_query, q_width), (n_key, kv_width) = q.data.shape, k.data.shape
        if n_query < n_key and len(spans) > 1:  # a cache of several documents is not fused
            return super().attention(q, k, v, n_head=n_head, spans=spans, bias=bias, scale=scale)
        pad = self._padding(spans)
        keys = pad.longest
        queries = keys if n_query == n_key else n_query
        head_dim = q_width // n_head
        share = q_width // kv_width  # query heads per key-value head

        def split(x: Array) -> Array:
            """Rows as `[batch][n_head][rows of a document][head_dim]`."""
            if pad.needed:
                x = x.take(pad.gather, 0)
            if x.shape[1] < q_width:  # repeat each key-value head for its query heads
                x = x.reshape(-1, q_width // share // head_dim, 1, head_dim).repeat(share, 2)
            return x.reshape(pad.batch, -1, n_head, head_dim).transpose(0, 2, 1, 3)

        def product(a: Array, b: Array, to: Node) -> Array:
            """a @ b, `[batch][n_head][rows of a document][head_dim]`, as rows with the width of `to`."""
            out = np.empty((pad.batch, a.shape[2], n_head, head_dim), a.dtype)
            np.matmul(a, b, out.transpose(0, 2, 1, 3))  # BLAS writes a view: no copy to join heads
            if to.data.shape[1] < q_width:
                out = np.add.reduce(out.reshape(-1, kv_width // head_dim, share, head_dim), 2)
            out = out.reshape(-1, to.data.shape[1])
            return out.take(pad.scatter, 0) if pad.needed else out

        qs, ks, vs = split(q.data), split(k.data), split(v.data)
        factor = number(head_dim**-0.5 if scale is None else scale, self.dtype)
        # [batch][n_head][queries][keys], row by row so that `rows` is a view
        probs = np.matmul(qs, ks.swapaxes(2, 3), order="C")
        probs *= factor
        if bias is not None:
            check_bias(bias, n_head, spans)
            near = np.array([row[:keys] for row in bias], self.dtype)
            probs += near[:, np.maximum(distance(queries, keys), 0)]
        exp_rows(probs, probs, seen(probs.shape, self.dtype))
        # Rows are summed by a product: NumPy's reduction over a short axis takes 5 times as long.
        rows, ones = probs.reshape(-1, keys), summing(probs.shape, 1, self.dtype)
        total = rows.dot(ones)
        if pad.needed:
            valid = total.reshape(*probs.shape[:3], -1)
            np.divide(pad.valid, valid, valid)
            rows *= total
        else:
            rows /= total

        def back(grad: Array) -> None:
            d_out = split(grad)
            d_scores = np.matmul(d_out, vs.swapaxes(2, 3), order="C")
            d_rows = d_scores.reshape(-1, keys)
            # d scores = probs (d probs - sum(d probs * probs)), times the scale
            d_rows *= rows
            d_rows -= rows * d_rows.dot(ones)
            d_rows *= factor
            q.give(product(d_scores, ks, q))
            k.give(product(d_scores.swapaxes(2, 3), qs, k))
            v.give(product(probs.swapaxes(2, 3), d_out, v))

        return node(self, product(probs, vs, q), (q, k, v), back)

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
        # In place, also in the gradient, which is not used again: allocation takes as long as arithmetic.
        grad, mean, square, step = g.data, m.data, v.data, self._scratch(g.data.shape)
        mean *= number(beta1, self.dtype)
        np.multiply(grad, number(1 - beta1, self.dtype), step)
        mean += step
        grad *= grad
        grad *= number(1 - beta2, self.dtype)
        square *= number(beta2, self.dtype)
        square += grad
        np.sqrt(square, step)
        step += eps
        np.divide(mean, step, step)
        step *= rate
        p.data -= step
        return p, m, v

    # Helpers

    def _scratch(self, shape: tuple[int, int]) -> Array:
        """A reusable buffer for an update of this shape."""
        if shape not in self._scratches:
            self._scratches[shape] = np.empty(shape, self.dtype)
        return self._scratches[shape]

    def _padding(self, spans: Spans) -> Padding:
        padding = self._paddings.get(key := tuple(spans))
        if padding is None:
            if len(self._paddings) >= 256:
                self._paddings.clear()
            padding = self._paddings[key] = Padding(spans, self.dtype)
        return padding
