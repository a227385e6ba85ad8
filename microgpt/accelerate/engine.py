"""The NumPy engine: every operation, forward and backward."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from microgpt.accelerate.arrays import (
    MANY,
    Padding,
    distance,
    exp_rows,
    full,
    indices,
    number,
    one_hot,
    seen,
    width,
)
from microgpt.accelerate.memory import keep_memory
from microgpt.accelerate.node import Array, Node, Weight, backward, node
from microgpt.accelerate.pack import Pack, WeightPack, buffer_of, packed, parts
from microgpt.core.check import choice
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import (
    Bias,
    Rows,
    Spans,
    check_bias,
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

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]


class NumpyEngine(Engine):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        self.dtype = choice("dtype", dtype, ("float64", "float32"))
        self.arithmetic = f"{dtype}/blas"
        self._scratches: dict[tuple[int, int], Array] = {}
        self._paddings: dict[tuple[tuple[int, int], ...], Padding] = {}
        # inf and nan show in the loss, so warnings are off. Set once for the thread, since an
        # `errstate` around every operation costs 1 us each.
        np.seterr(all="ignore")
        keep_memory()

    def depends_on(self) -> dict[str, str]:
        """The NumPy and BLAS that the last bits of a result depend on."""
        config = cast(dict[str, Any], np.show_config(mode="dicts"))
        blas = config["Build Dependencies"]["blas"]
        return {
            "dtype": self.dtype,
            "numpy": np.__version__,
            "blas": f"{blas['name']} {blas['version']}",
            "simd": " ".join(config["SIMD Extensions"].get("found", [])),
        }

    # Numbers in and out

    def parameter(self, rows: Rows) -> Matrix:
        return self.parameters({"": rows})[""]

    def parameters(self, rows: Mapping[str, Rows]) -> dict[str, Matrix]:
        shapes = [check_matrix(numbers) for numbers in rows.values()]
        buffer = buffer_of(list(rows.values()), self.dtype)
        grads = np.zeros_like(buffer)
        pairs = zip(parts(buffer, shapes), parts(grads, shapes))
        weights = {name: Weight(self, data, kept) for name, (data, kept) in zip(rows, pairs)}
        gradients = packed(self, list(rows), shapes, grads)
        return WeightPack(weights, Node(self, buffer.reshape(1, -1)), gradients)

    def gradients(self, weights: Weights) -> dict[str, Matrix]:
        for w in weights.values():
            if not w.touched:
                w.kept.fill(0)
            w.touched = False
        if isinstance(weights, WeightPack):
            return weights.gradients
        return {name: Node(self, w.kept) for name, w in weights.items()}

    def zeros_like(self, matrices: Weights) -> dict[str, Matrix]:
        shapes = [x.data.shape for x in matrices.values()]
        size = sum(x.data.size for x in matrices.values())
        return packed(self, list(matrices), shapes, np.zeros(size, self.dtype))

    def joined(self, matrices: Weights) -> Weights:
        return {"": matrices.row} if isinstance(matrices, Pack) else matrices

    def constant(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return Node(self, np.array(rows, self.dtype))

    def detached(self, x: Matrix) -> Matrix:
        return Node(self, x.data)

    def values(self, x: Matrix) -> Rows:
        return cast(Rows, x.data.tolist())

    def shape(self, x: Matrix) -> tuple[int, int]:
        return cast(tuple[int, int], x.data.shape)

    def backward(self, loss: Matrix) -> None:
        check_loss(loss.data.shape, loss.needs)
        backward(loss, full(1, 1, 1, self.dtype))

    def assign(self, target: Matrix, source: Matrix) -> None:
        if target.data is not source.data:
            check_same(target.data.shape, source.data.shape)
            target.data[:] = source.data

    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        return {name: x.data.ravel().tolist() for name, x in matrices.items()}

    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        for name, x in matrices.items():
            check_numbers(x.data.shape, len(flat[name]))
            x.data[:] = np.array(flat[name]).reshape(x.data.shape)

    def global_norm(self, matrices: Weights) -> float:
        flats = [x.data.ravel() for x in self.joined(matrices).values()]
        return math.sqrt(sum(float(flat.dot(flat)) for flat in flats))

    # Primitives: rows and columns

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        try:  # NumPy notices an id that is out of range at a tenth of the price of `check_ids`
            places = indices(ids)
            rows = x.data.take(places, 0)
        except (IndexError, OverflowError):
            check_ids(ids, x.data.shape[0])
            raise

        def back(grad: Array) -> None:
            n = x.data.shape[0]
            if n <= MANY:  # a product with one-hot rows is faster than adding row by row
                x.give_product(one_hot(places, n, self.dtype).T, grad)
            else:
                total = np.zeros_like(x.data)
                np.add.at(total, places, grad)
                x.give(total)

        return node(self, rows, (x,), back)

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        check_widths(x.data.shape for x in xs)

        def back(grad: Array) -> None:
            for x, part in zip(xs, np.split(grad, np.cumsum([len(x.data) for x in xs])[:-1])):
                x.give(part)

        return node(self, np.concatenate([x.data for x in xs]), tuple(xs), back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        check_range(x.data.shape, start, stop)

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[:, start:stop] = grad
            x.give(whole)

        return node(self, x.data[:, start:stop], (x,), back)

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows(x.data.shape for x in xs)

        def back(grad: Array) -> None:
            edges = np.cumsum([x.data.shape[1] for x in xs])[:-1]
            for x, part in zip(xs, np.split(grad, edges, axis=1)):
                x.give(part)

        return node(self, np.concatenate([x.data for x in xs], axis=1), tuple(xs), back)

    def transpose(self, x: Matrix) -> Matrix:
        return node(self, x.data.T, (x,), lambda grad: x.give(grad.T))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_count(x.data.shape, ids)
        check_ids(ids, x.data.shape[1])
        place = (np.arange(len(ids)), indices(ids))

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[place] = grad[:, 0]
            x.give(whole)

        return node(self, x.data[place][:, None], (x,), back)

    # Primitives: arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data + b, (a,), a.give)
        alike = _alike(a.data, b.data)

        def back(grad: Array) -> None:
            a.give(grad)
            b.give(grad if alike else _summed(grad, b.data))

        return node(self, a.data + b.data, (a, b), back)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data * b, (a,), lambda grad: a.give(grad * b))
        alike = _alike(a.data, b.data)

        def back(grad: Array) -> None:
            a.give(grad * b.data)
            to_b = grad * a.data
            b.give(to_b if alike else _summed(to_b, b.data))

        return node(self, a.data * b.data, (a, b), back)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data / b, (a,), lambda grad: a.give(grad / b))
        alike, result = _alike(a.data, b.data), a.data / b.data

        def back(grad: Array) -> None:
            over = grad / b.data
            a.give(over)
            to_b = -over * result
            b.give(to_b if alike else _summed(to_b, b.data))

        return node(self, result, (a, b), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give_product(grad, w.data)
            w.give_product(grad.T, x.data)

        return node(self, x.data.dot(w.data.T), (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give(np.broadcast_to(grad, x.data.shape))

        return node(self, np.add.reduce(x.data, 1, keepdims=True), (x,), back)

    def row_max(self, x: Matrix) -> Matrix:
        return Node(self, np.maximum.reduce(x.data, 1, keepdims=True))

    def sign(self, x: Matrix) -> Matrix:
        return Node(self, np.sign(x.data))

    def relu(self, x: Matrix) -> Matrix:
        result = np.maximum(x.data, number(0, self.dtype))
        return node(self, result, (x,), lambda grad: x.give(grad * (result > 0)))

    def exp(self, x: Matrix) -> Matrix:
        result = np.exp(x.data)
        return node(self, result, (x,), lambda grad: x.give(grad * result))

    def log(self, x: Matrix) -> Matrix:
        return node(self, np.log(x.data), (x,), lambda grad: x.give(grad / x.data))

    def tanh(self, x: Matrix) -> Matrix:
        result = np.tanh(x.data)
        return node(self, result, (x,), lambda grad: x.give(grad * (1 - result * result)))

    def pow(self, x: Matrix, power: float) -> Matrix:
        def back(grad: Array) -> None:
            x.give(grad * (power * x.data ** (power - 1)))

        return node(self, x.data**power, (x,), back)

    # Derived, fused

    def mean(self, x: Matrix) -> Matrix:
        share = full(x.data.shape[0], 1, 1 / x.data.shape[0], self.dtype)
        return node(self, share.T.dot(x.data), (x,), lambda grad: x.give(share.dot(grad)))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        n = x.data.shape[1]
        mean = full(n, width(x.data), 1 / n, self.dtype)  # x @ mean is each row's mean
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
        probs = x.data.copy()
        exp_rows(probs)
        ones = full(probs.shape[1], width(probs), 1, self.dtype)
        probs /= probs.dot(ones)

        def back(grad: Array) -> None:
            dx = grad * probs
            dx -= probs * dx.dot(ones)
            x.give(dx)

        return node(self, probs, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        check_count(logits.data.shape, targets)
        n = logits.data.shape[1]
        try:  # as in `gather`
            hot = one_hot(indices(targets), n, self.dtype)
        except (IndexError, OverflowError):
            check_ids(targets, n)
            raise
        probs = logits.data.copy()
        exp_rows(probs)
        probs /= probs.dot(full(n, width(probs), 1, self.dtype))
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
        check_bias(bias, n_head, spans)
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
            rows = np.empty((pad.batch, a.shape[2], n_head, head_dim), self.dtype)
            np.matmul(a, b, rows.transpose(0, 2, 1, 3))  # BLAS writes a view: no copy to join heads
            if to.data.shape[1] < q_width:
                rows = np.add.reduce(rows.reshape(-1, kv_width // head_dim, share, head_dim), 2)
            rows = rows.reshape(-1, to.data.shape[1])
            return rows.take(pad.scatter, 0) if pad.needed else rows

        qs, ks, vs = split(q.data), split(k.data), split(v.data)
        factor = number(head_dim**-0.5 if scale is None else scale, self.dtype)
        probs = np.matmul(qs, ks.swapaxes(2, 3))  # [batch][n_head][queries][keys]
        probs *= factor
        if bias is not None:
            near = np.array([row[:keys] for row in bias], self.dtype)
            probs += near[:, np.maximum(distance(queries, keys), 0)]
        exp_rows(probs, seen(*probs.shape, self.dtype))
        # Rows are summed by a product: NumPy's reduction over a short axis takes 5 times as long.
        ones = full(keys, width(probs), 1, self.dtype)
        total = probs.reshape(-1, keys).dot(ones).reshape(*probs.shape[:3], -1)
        if pad.needed:
            probs *= np.divide(pad.valid, total, total)
        else:
            probs /= total

        def back(grad: Array) -> None:
            d_out = split(grad)
            d_scores = np.matmul(d_out, vs.swapaxes(2, 3))
            # d scores = probs (d probs - sum(d probs * probs)), times the scale
            d_scores *= probs
            total = d_scores.reshape(-1, keys).dot(ones).reshape(*probs.shape[:3], -1)
            d_scores -= probs * total
            d_scores *= factor
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
        grad, step = g.data, self._scratch(g.data.shape)
        m.data *= beta1
        np.multiply(grad, 1 - beta1, step)
        m.data += step
        grad *= grad
        grad *= 1 - beta2
        v.data *= beta2
        v.data += grad
        np.sqrt(v.data, step)
        step += eps
        np.divide(m.data, step, step)
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


def _alike(a: Array, b: Array) -> bool:
    """Whether b has the shape of a. Raises ValueError if b cannot be broadcast to a."""
    if a.shape == b.shape:
        return True
    check_operand(a.shape, b.shape)
    return False


def _summed(grad: Array, x: Array) -> Array:
    """The gradient of an operand that was broadcast to the shape of `grad`: summed over the repeats."""
    if x.shape[0] < grad.shape[0]:
        grad = np.add.reduce(grad, 0, keepdims=True)
    if x.shape[1] < grad.shape[1]:
        grad = np.add.reduce(grad, 1, keepdims=True)
    return grad
