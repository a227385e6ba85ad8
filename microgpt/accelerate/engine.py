"""The engine: every operation of the contract, forward and backward."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

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
from microgpt.accelerate.node import Array, Node, Weight, backward, node
from microgpt.accelerate.pack import RULES, Pack
from microgpt.core.check import BadValue
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans
from microgpt.core.optim.base import Optimizer


class NumpyEngine(Engine):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        if dtype not in ("float64", "float32"):
            raise BadValue("dtype", dtype, "must be float64 or float32")
        self.dtype = dtype
        self._paddings: dict[tuple[tuple[int, int], ...], Padding] = {}
        # A run that diverges shows in its loss: inf and nan, without a warning on the way there. Set
        # once for the thread, since an `errstate` round every operation costs 1 us each.
        np.seterr(all="ignore")

    @property
    def arithmetic(self) -> str:
        return f"{self.dtype}/blas"

    def depends_on(self) -> dict[str, str]:
        """What the last bits of a result depend on, apart from the machine."""
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
        return Weight(np.array(rows, self.dtype))

    def constant(self, rows: Rows) -> Matrix:
        return Node(np.array(rows, self.dtype))

    def frozen(self, weights: Mapping[str, Matrix]) -> Mapping[str, Matrix]:
        self._pack(weights)  # now, so that what is frozen stays what is trained
        return {name: Node(w.data) for name, w in weights.items()}

    def values(self, x: Matrix) -> Rows:
        return cast(Rows, x.data.tolist())

    def shape(self, x: Matrix) -> tuple[int, int]:
        return cast(tuple[int, int], x.data.shape)

    def backward(self, loss: Matrix) -> None:
        backward(loss, full(1, 1, 1, self.dtype))

    def gradients(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        _settle(weights)
        return {name: w.kept.ravel().tolist() for name, w in weights.items()}

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: w.data.ravel().tolist() for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            w.data[:] = np.array(flat[name]).reshape(w.data.shape)

    # Primitives: rows and columns

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        places = indices(ids)

        def back(grad: Array) -> None:
            n = x.data.shape[0]
            if n <= MANY:  # a product with one-hot rows is far faster than adding row by row
                x.give_product(one_hot(places, n, self.dtype).T, grad)
            else:
                total = np.zeros_like(x.data)
                np.add.at(total, places, grad)
                x.give(total)

        return node(x.data.take(places, 0), (x,), back)

    def stack(self, xs: Sequence[Matrix]) -> Matrix:
        def back(grad: Array) -> None:
            for x, part in zip(xs, np.split(grad, np.cumsum([len(x.data) for x in xs])[:-1])):
                x.give(part)

        return node(np.concatenate([x.data for x in xs]), tuple(xs), back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[:, start:stop] = grad
            x.give(whole)

        return node(x.data[:, start:stop], (x,), back)

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        def back(grad: Array) -> None:
            edges = np.cumsum([x.data.shape[1] for x in xs])[:-1]
            for x, part in zip(xs, np.split(grad, edges, axis=1)):
                x.give(part)

        return node(np.concatenate([x.data for x in xs], axis=1), tuple(xs), back)

    def transpose(self, x: Matrix) -> Matrix:
        return node(x.data.T, (x,), lambda grad: x.give(grad.T))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        place = (np.arange(len(ids)), indices(ids))

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[place] = grad[:, 0]
            x.give(whole)

        return node(x.data[place][:, None], (x,), back)

    # Primitives: arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(a.data + b, (a,), a.give)

        def back(grad: Array) -> None:
            a.give(grad)
            b.give(_like(grad, b.data))

        return node(a.data + b.data, (a, b), back)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(a.data * b, (a,), lambda grad: a.give(grad * b))

        def back(grad: Array) -> None:
            a.give(grad * b.data)
            b.give(_like(grad * a.data, b.data))

        return node(a.data * b.data, (a, b), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give_product(grad, w.data)
            w.give_product(grad.T, x.data)

        return node(x.data.dot(w.data.T), (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give(np.broadcast_to(grad, x.data.shape))

        return node(np.add.reduce(x.data, 1, keepdims=True), (x,), back)

    def row_max(self, x: Matrix) -> Matrix:
        return Node(np.maximum.reduce(x.data, 1, keepdims=True))

    def relu(self, x: Matrix) -> Matrix:
        result = np.maximum(x.data, number(0, self.dtype))
        return node(result, (x,), lambda grad: x.give(grad * (result > 0)))

    def exp(self, x: Matrix) -> Matrix:
        result = np.exp(x.data)
        return node(result, (x,), lambda grad: x.give(grad * result))

    def log(self, x: Matrix) -> Matrix:
        return node(np.log(x.data), (x,), lambda grad: x.give(grad / x.data))

    def tanh(self, x: Matrix) -> Matrix:
        result = np.tanh(x.data)
        return node(result, (x,), lambda grad: x.give(grad * (1 - result * result)))

    def pow(self, x: Matrix, power: float) -> Matrix:
        def back(grad: Array) -> None:
            x.give(grad * (power * x.data ** (power - 1)))

        return node(x.data**power, (x,), back)

    # Derived, fused

    def mean(self, x: Matrix) -> Matrix:
        share = full(x.data.shape[0], 1, 1 / x.data.shape[0], self.dtype)
        return node(share.T.dot(x.data), (x,), lambda grad: x.give(share.dot(grad)))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        n = x.data.shape[1]
        mean = full(n, width(x.data), 1 / n, self.dtype)  # a row's mean is a product with it
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

        return node(y, (x,), back)

    def softmax(self, x: Matrix) -> Matrix:
        probs = x.data.copy()
        exp_rows(probs)
        ones = full(probs.shape[1], width(probs), 1, self.dtype)
        probs /= probs.dot(ones)

        def back(grad: Array) -> None:
            dx = grad * probs
            dx -= probs * dx.dot(ones)
            x.give(dx)

        return node(probs, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probs = logits.data.copy()
        exp_rows(probs)
        n = probs.shape[1]
        probs /= probs.dot(full(n, width(probs), 1, self.dtype))
        hot = one_hot(indices(targets), n, self.dtype)
        loss = np.log((probs * hot).dot(full(n, 1, 1, self.dtype)))

        def back(grad: Array) -> None:
            dx = probs - hot
            dx *= grad
            logits.give(dx)

        return node(np.negative(loss, loss), (logits,), back)

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
        (n_query, q_width), (n_key, kv_width) = q.data.shape, k.data.shape
        if n_query < n_key and len(spans) > 1:  # a cache of several documents: nobody has one yet
            return super().attention(q, k, v, n_head=n_head, spans=spans, bias=bias)
        pad = self._padding(spans)
        keys = pad.longest
        queries = keys if n_query == n_key else n_query
        head_dim = q_width // n_head
        share = q_width // kv_width  # query heads that read one key-value head

        def split(x: Array) -> Array:
            """Rows as `[batch][n_head][rows of a document][head_dim]`."""
            if pad.needed:
                x = x.take(pad.gather, 0)
            if x.shape[1] < q_width:  # each key-value head once for every query head that reads it
                x = x.reshape(-1, q_width // share // head_dim, 1, head_dim).repeat(share, 2)
            return x.reshape(pad.batch, -1, n_head, head_dim).transpose(0, 2, 1, 3)

        def product(a: Array, b: Array, to: Node) -> Array:
            """a times b `[batch][n_head][rows of a document][head_dim]` as rows, of the width of `to`."""
            rows = np.empty((pad.batch, a.shape[2], n_head, head_dim), self.dtype)
            np.matmul(a, b, rows.transpose(0, 2, 1, 3))  # BLAS writes a view: no copy to join heads
            if to.data.shape[1] < q_width:
                rows = np.add.reduce(rows.reshape(-1, kv_width // head_dim, share, head_dim), 2)
            rows = rows.reshape(-1, to.data.shape[1])
            return rows.take(pad.scatter, 0) if pad.needed else rows

        qs, ks, vs = split(q.data), split(k.data), split(v.data)
        scale = number(head_dim**-0.5, self.dtype)
        probs = np.matmul(qs, ks.swapaxes(2, 3))  # [batch][n_head][queries][keys]
        probs *= scale
        if bias is not None:
            probs += np.array(bias, self.dtype)[:, np.maximum(distance(queries, keys), 0)]
        exp_rows(probs, seen(*probs.shape, self.dtype))
        # Here and below rows are summed by BLAS; NumPy's reduction over a short axis takes 5x as long.
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
            d_scores *= scale
            q.give(product(d_scores, ks, q))
            k.give(product(d_scores.swapaxes(2, 3), qs, k))
            v.give(product(probs.swapaxes(2, 3), d_out, v))

        return node(product(probs, vs, q), (q, k, v), back)

    # The optimizer's step

    def update(
        self,
        weights: Mapping[str, Matrix],
        optimizer: Optimizer,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> float:
        rule = RULES.get(type(optimizer))
        if rule is None:
            return super().update(weights, optimizer, lr, clip_norm, measured)
        pack = self._pack(weights)
        _settle(weights)
        if optimizer is not pack.optimizer or optimizer.state is not pack.state:
            pack.adopt(optimizer)
        norm = math.sqrt(pack.grads.dot(pack.grads)) if clip_norm or measured else 0.0
        if clip_norm and norm > clip_norm:
            pack.grads *= clip_norm / norm
        optimizer.steps += 1
        rule(optimizer, pack, lr * pack.scales)
        return norm

    # Within

    def _pack(self, weights: Mapping[str, Matrix]) -> Pack:
        """The buffers that hold exactly these weights."""
        pack = next(iter(weights.values())).pack
        return pack if isinstance(pack, Pack) and pack.weights == weights else Pack(weights)

    def _padding(self, spans: Spans) -> Padding:
        padding = self._paddings.get(key := tuple(spans))
        if padding is None:
            if len(self._paddings) >= 256:
                self._paddings.clear()
            padding = self._paddings[key] = Padding(spans, self.dtype)
        return padding


def _settle(weights: Mapping[str, Weight]) -> None:
    """All gradients are complete: 0 where the loss did not come from a weight; the next start anew."""
    for w in weights.values():
        if not w.touched:
            w.kept.fill(0)
        w.touched = False


def _like(grad: Array, x: Array) -> Array:
    """The gradient of an operand that was repeated to the shape of `grad`: summed over the repeats."""
    if x.shape[0] < grad.shape[0]:
        grad = np.add.reduce(grad, 0, keepdims=True)
    if x.shape[1] < grad.shape[1]:
        grad = np.add.reduce(grad, 1, keepdims=True)
    return grad
