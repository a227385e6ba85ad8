"""The NumPy engine: the contract of `core.engine.base` on arrays, one node an operation.

At n_embd 16 a step has about a hundred NumPy calls of which each computes less than it costs to call.
So what counts is their number: the hot derived operations are fused, forward and backward, weights
and gradients lie in one flat buffer each, and an optimizer that is known here is a handful of calls.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from operator import attrgetter
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from microgpt.core.check import BadValue
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans
from microgpt.core.optim.adam import Adam, power
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.sgd import SGD

Array: TypeAlias = NDArray[Any]
Back: TypeAlias = Callable[[Array], None]

_order = count()


class Node:
    """A matrix; where a gradient goes through it, what it was computed from and how to hand it on."""

    __slots__ = ("back", "data", "grad", "needs", "order", "parents")

    def __init__(
        self, data: Array, parents: tuple["Node", ...] = (), back: Back | None = None
    ) -> None:
        self.data = data
        self.parents = parents
        self.back = back
        self.needs = back is not None  # does a gradient concern it?
        self.grad: Array | None = None
        self.order = next(_order)

    def give(self, grad: Array) -> None:
        """Add to the gradient. A given array may be another node's too: it is never changed."""
        self.grad = grad if self.grad is None else self.grad + grad

    def give_product(self, a: Array, b: Array) -> None:
        """Add a times b to the gradient."""
        self.give(a.dot(b))


class Weight(Node):
    """A parameter. Its gradient stays, in a place of its own, until the engine is asked for it."""

    __slots__ = ("kept", "pack", "touched")

    def __init__(self, data: Array) -> None:
        super().__init__(data)
        self.needs = True
        self.kept = np.zeros_like(data)
        self.touched = False  # does `kept` hold anything since it was last asked for?
        self.pack: Pack | None = None

    def give(self, grad: Array) -> None:
        if self.touched:
            self.kept += grad
        else:
            self.kept[:] = grad
            self.touched = True

    def give_product(self, a: Array, b: Array) -> None:
        if self.touched:
            self.kept += a.dot(b)
        else:
            a.dot(b, self.kept)
            self.touched = True


class Flat(Sequence[float]):
    """A part of a buffer as a sequence of floats: what an optimizer's slot holds for one weight."""

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, i: Any) -> Any:
        return self.numbers[i].tolist()

    def __iter__(self) -> Iterator[float]:
        return iter(self.numbers.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Pack:
    """The weights of a model in one buffer, their gradients in another, an optimizer's slots in more."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.weights = dict(weights)
        self.sizes = {name: w.data.size for name, w in weights.items()}
        self.values = np.concatenate([w.data.ravel() for w in weights.values()])
        self.grads = np.concatenate([w.kept.ravel() for w in weights.values()])
        parts = zip(weights.values(), self.parts(self.values), self.parts(self.grads))
        for w, values, grads in parts:
            w.data, w.kept = values.reshape(w.data.shape), grads.reshape(w.data.shape)
            w.pack = self
        self.scratch = np.empty_like(self.values)
        self.optimizer: Optimizer | None = None
        self.state: dict[str, dict[str, list[float]]] = {}
        self.slots: list[Array] = []
        self.scales: Array | float = 1.0

    def parts(self, flat: Array) -> list[Array]:
        """The part of a buffer that is each weight's, in order."""
        return np.split(flat, np.cumsum(list(self.sizes.values()))[:-1])

    def adopt(self, optimizer: Optimizer) -> None:
        """Take over the slots of an optimizer, and leave views of them in its state."""
        dtype = self.values.dtype
        self.slots = [
            np.array([x for name in self.sizes for x in optimizer.state[slot][name]], dtype)
            for slot in optimizer.slots
        ]
        views = {
            slot: {name: Flat(part) for name, part in zip(self.sizes, self.parts(numbers))}
            for slot, numbers in zip(optimizer.slots, self.slots)
        }
        self.state = cast(dict[str, dict[str, list[float]]], views)
        self.optimizer, optimizer.state = optimizer, self.state
        scales = [optimizer.lr_scales[name] for name in self.sizes]
        self.scales = scales[0]
        if len(set(scales)) > 1:
            self.scales = np.repeat(np.array(scales, dtype), list(self.sizes.values()))


class Plan:
    """What attention must know of the spans: how rows become a padded batch and back, what each sees."""

    def __init__(self, spans: Spans, n_query: int, dtype: str) -> None:
        bounds = np.array(spans)
        starts, lengths = bounds[:, :1], bounds[:, 1:] - bounds[:, :1]
        self.batch, self.longest = len(spans), int(lengths.max())
        self.queries = n_query if self.batch == 1 else self.longest
        steps = np.arange(self.longest)
        valid = steps < lengths  # [batch][longest]
        # How far each key lies before each query: `[queries][longest]`, below 0 for the future.
        self.distance = steps[self.longest - self.queries :, None] - steps
        self.mask = np.where(self.distance < 0, -math.inf, 0.0).astype(dtype)
        self.padded = not valid.all()
        self.gather = np.minimum(starts + steps, bounds[-1, 1] - 1).ravel()
        self.scatter = np.flatnonzero(valid)
        # A padded query's probabilities are set to 0: so nothing flows back from it.
        self.valid = valid.astype(dtype)[:, None, :, None]


class NumpyEngine(Engine):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        if dtype not in ("float64", "float32"):
            raise BadValue("dtype", dtype, "must be float64 or float32")
        self.dtype = dtype
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._constants: dict[tuple[str, int], Array] = {}
        # A run that diverges shows in its loss: inf and nan, without a warning on the way there.
        np.seterr(all="ignore")

    def fingerprint(self) -> dict[str, str]:
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
        loss.give(self._filled("one", 1))
        reached, todo = {loss}, [loss]
        while todo:
            for parent in todo.pop().parents:
                if parent.back is not None and parent not in reached:
                    reached.add(parent)
                    todo.append(parent)
        for node in sorted(reached, key=attrgetter("order"), reverse=True):
            node.back(node.grad)
            node.grad = None

    def gradients(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        self._untouched_to_zero(weights)
        for w in weights.values():
            w.touched = False
        return {name: w.kept.ravel().tolist() for name, w in weights.items()}

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: w.data.ravel().tolist() for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            w.data[:] = np.array(flat[name]).reshape(w.data.shape)

    # Primitives: rows and columns

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        index = np.array(ids)

        def back(grad: Array) -> None:
            n = x.data.shape[0]
            if n <= 1024:  # a product with one-hot rows is far faster than adding row by row
                x.give_product(self._filled("eye", n).take(index, 0).T, grad)
            else:
                total = np.zeros_like(x.data)
                np.add.at(total, index, grad)
                x.give(total)

        return _node(x.data.take(index, 0), (x,), back)

    def stack(self, xs: Sequence[Matrix]) -> Matrix:
        def back(grad: Array) -> None:
            for x, part in zip(xs, np.split(grad, np.cumsum([len(x.data) for x in xs])[:-1])):
                x.give(part)

        return _node(np.concatenate([x.data for x in xs]), tuple(xs), back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[:, start:stop] = grad
            x.give(whole)

        return _node(x.data[:, start:stop], (x,), back)

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        def back(grad: Array) -> None:
            edges = np.cumsum([x.data.shape[1] for x in xs])[:-1]
            for x, part in zip(xs, np.split(grad, edges, axis=1)):
                x.give(part)

        return _node(np.concatenate([x.data for x in xs], axis=1), tuple(xs), back)

    def transpose(self, x: Matrix) -> Matrix:
        return _node(x.data.T, (x,), lambda grad: x.give(grad.T))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        place = (np.arange(len(ids)), np.array(ids))

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[place] = grad[:, 0]
            x.give(whole)

        return _node(x.data[place][:, None], (x,), back)

    # Primitives: arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return _node(a.data + b, (a,), a.give)

        def back(grad: Array) -> None:
            a.give(grad)
            b.give(_like(grad, b.data))

        return _node(a.data + b.data, (a, b), back)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return _node(a.data * b, (a,), lambda grad: a.give(grad * b))

        def back(grad: Array) -> None:
            a.give(grad * b.data)
            b.give(_like(grad * a.data, b.data))

        return _node(a.data * b.data, (a, b), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give_product(grad, w.data)
            w.give_product(grad.T, x.data)

        return _node(x.data.dot(w.data.T), (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give(np.broadcast_to(grad, x.data.shape))

        return _node(np.add.reduce(x.data, 1, keepdims=True), (x,), back)

    def row_max(self, x: Matrix) -> Matrix:
        return Node(np.maximum.reduce(x.data, 1, keepdims=True))

    def relu(self, x: Matrix) -> Matrix:
        result = np.maximum(x.data, 0)
        return _node(result, (x,), lambda grad: x.give(grad * (result > 0)))

    def exp(self, x: Matrix) -> Matrix:
        result = np.exp(x.data)
        return _node(result, (x,), lambda grad: x.give(grad * result))

    def log(self, x: Matrix) -> Matrix:
        return _node(np.log(x.data), (x,), lambda grad: x.give(grad / x.data))

    def tanh(self, x: Matrix) -> Matrix:
        result = np.tanh(x.data)
        return _node(result, (x,), lambda grad: x.give(grad * (1 - result * result)))

    def pow(self, x: Matrix, power: float) -> Matrix:
        def back(grad: Array) -> None:
            x.give(grad * (power * x.data ** (power - 1)))

        return _node(x.data**power, (x,), back)

    # Derived, fused

    def mean(self, x: Matrix) -> Matrix:
        share = self._filled("mean", x.data.shape[0])  # [T][1] of 1/T
        return _node(share.T.dot(x.data), (x,), lambda grad: x.give(share * grad))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        share = self._filled("mean", x.data.shape[1])  # a row's mean is a product with it
        scale = (x.data * x.data).dot(share)
        scale += eps
        np.sqrt(scale, scale)
        np.divide(1, scale, scale)
        y = x.data * scale

        def back(grad: Array) -> None:
            # dx = scale (dy - y mean(dy y))
            dx = y * (grad * y).dot(share)
            np.subtract(grad, dx, dx)
            dx *= scale
            x.give(dx)

        return _node(y, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probs = logits.data - np.maximum.reduce(logits.data, 1, keepdims=True)
        np.exp(probs, probs)
        n = probs.shape[1]
        probs /= probs.dot(self._filled("ones", n))
        hot = self._filled("eye", n).take(targets, 0)
        loss = np.log((probs * hot).dot(self._filled("ones", n)))

        def back(grad: Array) -> None:
            dx = probs - hot
            dx *= grad
            logits.give(dx)

        return _node(np.negative(loss, loss), (logits,), back)

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
        (n_query, width), (n_key, kv_width) = q.data.shape, k.data.shape
        if n_query < n_key and len(spans) > 1:  # a cache of several documents: nobody has one yet
            return super().attention(q, k, v, n_head=n_head, spans=spans, bias=bias)
        plan = self._plan(spans, n_query)
        head_dim = width // n_head
        n_kv = kv_width // head_dim
        share = n_head // n_kv
        queries, keys = plan.queries, plan.longest
        by_query = (plan.batch, queries, n_kv, share, head_dim)
        # Query heads that share a key-value head stand below one another, as if more queries.
        stacked = (plan.batch, n_kv, share * queries, head_dim)

        def split(x: Array) -> Array:
            """Rows of queries as `[batch][n_kv][share * queries][head_dim]`."""
            x = x.take(plan.gather, 0) if plan.padded else x
            return x.reshape(by_query).transpose(0, 2, 3, 1, 4).reshape(stacked)

        def split_kv(x: Array) -> Array:
            """Rows of keys or values as `[batch][n_kv][keys][head_dim]`."""
            x = x.take(plan.gather, 0) if plan.padded else x
            return x.reshape(plan.batch, keys, n_kv, head_dim).transpose(0, 2, 1, 3)

        def join(x: Array) -> Array:
            x = x.reshape(plan.batch, n_kv, share, queries, head_dim).transpose(0, 3, 1, 2, 4)
            x = x.reshape(-1, width)
            return x.take(plan.scatter, 0) if plan.padded else x

        def join_kv(x: Array) -> Array:
            x = x.transpose(0, 2, 1, 3).reshape(-1, kv_width)
            return x.take(plan.scatter, 0) if plan.padded else x

        qs, ks, vs = split(q.data), split_kv(k.data), split_kv(v.data)
        scale = head_dim**-0.5
        probs = np.matmul(qs, ks.swapaxes(2, 3))  # [batch][n_kv][share * queries][keys]
        probs *= scale
        seen = probs.reshape(plan.batch, n_kv, share, queries, keys)
        seen += plan.mask
        if bias is not None:
            table = np.array(bias, self.dtype)[:, np.maximum(plan.distance, 0)]
            seen += table.reshape(n_kv, share, queries, keys)
        probs -= np.maximum.reduce(probs, 3, keepdims=True)
        np.exp(probs, probs)
        total = probs.dot(self._filled("ones", keys))
        if plan.padded:
            seen_total = total.reshape(plan.batch, n_kv * share, queries, 1)
            np.divide(plan.valid, seen_total, seen_total)
            probs *= total
        else:
            probs /= total

        def back(grad: Array) -> None:
            d_out = split(grad)
            d_probs = np.matmul(d_out, vs.swapaxes(2, 3))
            # d scores = probs (d probs - sum(d probs * probs)), before the scale
            d_scores = d_probs * probs
            d_scores -= probs * d_scores.dot(self._filled("ones", keys))
            d_scores *= scale
            q.give(join(np.matmul(d_scores, ks)))
            k.give(join_kv(np.matmul(d_scores.swapaxes(2, 3), qs)))
            v.give(join_kv(np.matmul(probs.swapaxes(2, 3), d_out)))

        return _node(join(np.matmul(probs, vs)), (q, k, v), back)

    # The optimizer's step

    def update(
        self,
        weights: Mapping[str, Matrix],
        optimizer: Optimizer,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> float:
        rule = _RULES.get(type(optimizer))  # the very type: a subclass may have a rule of its own
        if rule is None:
            return super().update(weights, optimizer, lr, clip_norm, measured)
        pack = self._pack(weights)
        self._untouched_to_zero(weights)
        if optimizer is not pack.optimizer or optimizer.state is not pack.state:
            pack.adopt(optimizer)
        norm = math.sqrt(pack.grads.dot(pack.grads)) if clip_norm or measured else 0.0
        if clip_norm and norm > clip_norm:
            pack.grads *= clip_norm / norm
        optimizer.steps += 1
        rule(optimizer, pack, lr * pack.scales)
        for w in weights.values():
            w.touched = False
        return norm

    # Within

    def _pack(self, weights: Mapping[str, Matrix]) -> Pack:
        """The buffers that hold exactly these weights."""
        first: Weight = next(iter(weights.values()))
        if first.pack is None or first.pack.weights != weights:
            return Pack(weights)
        return first.pack

    def _untouched_to_zero(self, weights: Mapping[str, Matrix]) -> None:
        """A weight that the loss did not come from has a gradient of 0."""
        for w in weights.values():
            if not w.touched:
                w.kept.fill(0)

    def _plan(self, spans: Spans, n_query: int) -> Plan:
        key = (n_query, *spans)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= 256:  # batches of many documents hardly ever come again
                self._plans.clear()
            plan = self._plans[key] = Plan(spans, n_query, self.dtype)
        return plan

    def _filled(self, kind: str, n: int) -> Array:
        """A constant array, made once."""
        found = self._constants.get((kind, n))
        if found is None:
            if kind == "eye":
                found = np.eye(n, dtype=self.dtype)
            else:
                found = np.full((n, 1), 1 / n if kind == "mean" else 1, self.dtype)
            self._constants[kind, n] = found
        return found


def _node(data: Array, parents: tuple[Node, ...], back: Back) -> Node:
    """A node; without what it came from, where no gradient will be asked for."""
    for parent in parents:
        if parent.needs:
            return Node(data, parents, back)
    return Node(data)


def _like(grad: Array, x: Array) -> Array:
    """The gradient of an operand that was repeated to the shape of `grad`: summed over the repeats."""
    if x.shape[0] < grad.shape[0]:
        grad = np.add.reduce(grad, 0, keepdims=True)
    if x.shape[1] < grad.shape[1]:
        grad = np.add.reduce(grad, 1, keepdims=True)
    return grad


def _adam(optimizer: Any, pack: Pack, lr: Array | float) -> None:
    """Adam's update in place; see `core.optim.adam`, whose folded constants it has."""
    p, g, t, (m, v) = pack.values, pack.grads, pack.scratch, pack.slots
    b1, b2 = optimizer.beta1, optimizer.beta2
    rate = lr / (1 - power(b1, optimizer.steps))
    root = math.sqrt(1 - power(b2, optimizer.steps))
    m *= b1
    np.multiply(g, 1 - b1, t)
    m += t
    np.multiply(g, g, g)  # the gradients have had their day
    g *= 1 - b2
    v *= b2
    v += g
    np.sqrt(v, t)
    t += optimizer.eps * root
    np.divide(m, t, t)
    t *= rate * root
    p -= t


def _adamw(optimizer: Any, pack: Pack, lr: Array | float) -> None:
    pack.values *= 1 - lr * optimizer.weight_decay
    _adam(optimizer, pack, lr)


def _sgd(optimizer: Any, pack: Pack, lr: Array | float) -> None:
    (m,) = pack.slots
    m *= optimizer.momentum
    m += pack.grads
    np.multiply(m, lr, pack.scratch)
    pack.values -= pack.scratch


_RULES: dict[type, Callable[[Any, Pack, Array | float], None]] = {
    Adam: _adam,
    AdamW: _adamw,
    SGD: _sgd,
}
