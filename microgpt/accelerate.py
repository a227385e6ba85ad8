"""The NumPy engine: the contract of `core.engine.base` on arrays, one node an operation.

At n_embd 16 a step has about a hundred NumPy calls of which each computes less than it costs to call.
So what counts is their number: the hot derived operations are fused, forward and backward, weights
and gradients lie in one flat buffer each, and an optimizer that is known here is a handful of calls.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
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

SMALL = 2048  # numbers; below, a call to NumPy costs more than what it computes

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
        self.batch, self.keys = len(spans), int(lengths.max())
        queries = n_query if self.batch == 1 else self.keys
        steps = np.arange(self.keys)
        valid = steps < lengths  # [batch][keys]
        # How far each key lies before each query, `[queries][keys]`: below 0 where it is to come.
        self.distance = steps[self.keys - queries :, None] - steps
        self.padded = not valid.all()
        self.gather = np.minimum(starts + steps, bounds[-1, 1] - 1).ravel()
        self.scatter = np.flatnonzero(valid)
        # A padded query's probabilities are set to 0: so nothing flows back from it.
        self.valid = valid.astype(dtype)[:, None, :, None]
        self._mask = (self.distance >= 0).astype(dtype)

    def seen(self, scores: Array) -> Array:
        """1 where a query sees a key, 0 elsewhere."""
        if scores.size <= SMALL and self._mask.shape != scores.shape:
            self._mask = np.broadcast_to(self._mask, scores.shape).copy()
        return self._mask


class NumpyEngine(Engine):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        if dtype not in ("float64", "float32"):
            raise BadValue("dtype", dtype, "must be float64 or float32")
        self.dtype = dtype
        self._plans: dict[tuple[Any, ...], Plan] = {}
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
        loss.give(_full(1, 1, 1, self.dtype))
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
        _settle(weights)
        return {name: w.kept.ravel().tolist() for name, w in weights.items()}

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: w.data.ravel().tolist() for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            w.data[:] = np.array(flat[name]).reshape(w.data.shape)

    # Primitives: rows and columns

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        index = _index(ids)

        def back(grad: Array) -> None:
            n = x.data.shape[0]
            if n <= 1024:  # a product with one-hot rows is far faster than adding row by row
                x.give_product(_eye(n, self.dtype).take(index, 0).T, grad)
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
        result = np.maximum(x.data, _number(0, self.dtype))
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
        share = _full(x.data.shape[0], 1, 1 / x.data.shape[0], self.dtype)
        return _node(share.T.dot(x.data), (x,), lambda grad: x.give(share.dot(grad)))

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        n = x.data.shape[1]
        mean = _full(n, _width(x.data), 1 / n, self.dtype)  # a row's mean is a product with it
        root = (x.data * x.data).dot(mean)
        root += _number(eps, self.dtype)
        np.sqrt(root, root)
        y = x.data / root

        def back(grad: Array) -> None:
            # dx = (dy - y mean(dy y)) / root
            dx = y * (grad * y).dot(mean)
            np.subtract(grad, dx, dx)
            dx /= root
            x.give(dx)

        return _node(y, (x,), back)

    def softmax(self, x: Matrix) -> Matrix:
        probs = x.data.copy()
        _exp(probs)
        ones = _full(probs.shape[1], _width(probs), 1, self.dtype)
        probs /= probs.dot(ones)

        def back(grad: Array) -> None:
            dx = grad * probs
            dx -= probs * dx.dot(ones)
            x.give(dx)

        return _node(probs, (x,), back)

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        probs = logits.data.copy()
        _exp(probs)
        n = probs.shape[1]
        probs /= probs.dot(_full(n, _width(probs), 1, self.dtype))
        hot = _eye(n, self.dtype).take(_index(targets), 0)
        loss = np.log((probs * hot).dot(_full(n, 1, 1, self.dtype)))

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
        share = width // kv_width  # query heads that read one key-value head

        def split(x: Array) -> Array:
            """Rows as `[batch][n_head][rows of a document][head_dim]`."""
            if plan.padded:
                x = x.take(plan.gather, 0)
            if x.shape[1] < width:  # each key-value head once for every query head that reads it
                x = x.reshape(-1, width // share // head_dim, 1, head_dim).repeat(share, 2)
            return x.reshape(plan.batch, -1, n_head, head_dim).transpose(0, 2, 1, 3)

        def product(a: Array, b: Array, to: Node) -> Array:
            """a times b `[batch][n_head][rows of a document][head_dim]` as rows, of the width of `to`."""
            rows = np.empty((plan.batch, a.shape[2], n_head, head_dim), self.dtype)
            np.matmul(a, b, rows.transpose(0, 2, 1, 3))  # BLAS writes a view: no copy to join heads
            if to.data.shape[1] < width:
                rows = np.add.reduce(rows.reshape(-1, kv_width // head_dim, share, head_dim), 2)
            rows = rows.reshape(-1, to.data.shape[1])
            return rows.take(plan.scatter, 0) if plan.padded else rows

        qs, ks, vs = split(q.data), split(k.data), split(v.data)
        scale = _number(head_dim**-0.5, self.dtype)
        probs = np.matmul(qs, ks.swapaxes(2, 3))  # [batch][n_head][queries][keys]
        probs *= scale
        if bias is not None:
            probs += np.array(bias, self.dtype)[:, np.maximum(plan.distance, 0)]
        _exp(probs, plan.seen(probs))
        # Here and below rows are summed by BLAS; NumPy's reduction over a short axis takes 5x as long.
        ones = _full(plan.keys, _width(probs), 1, self.dtype)
        total = probs.reshape(-1, plan.keys).dot(ones).reshape(*probs.shape[:3], -1)
        if plan.padded:
            probs *= np.divide(plan.valid, total, total)
        else:
            probs /= total

        def back(grad: Array) -> None:
            d_out = split(grad)
            d_scores = np.matmul(d_out, vs.swapaxes(2, 3))
            # d scores = probs (d probs - sum(d probs * probs)), times the scale
            d_scores *= probs
            total = d_scores.reshape(-1, plan.keys).dot(ones).reshape(*probs.shape[:3], -1)
            d_scores -= probs * total
            d_scores *= scale
            q.give(product(d_scores, ks, q))
            k.give(product(d_scores.swapaxes(2, 3), qs, k))
            v.give(product(probs.swapaxes(2, 3), d_out, v))

        return _node(product(probs, vs, q), (q, k, v), back)

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
        first: Weight = next(iter(weights.values()))
        if first.pack is None or first.pack.weights != weights:
            return Pack(weights)
        return first.pack

    def _plan(self, spans: Spans, n_query: int) -> Plan:
        key = (n_query, *spans)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= 256:  # batches of many documents hardly ever come again
                self._plans.clear()
            plan = self._plans[key] = Plan(spans, n_query, self.dtype)
        return plan


@cache
def _full(rows: int, columns: int, number: float, dtype: str) -> Array:
    """A constant `[rows][columns]`."""
    return np.full((rows, columns), number, dtype)


@cache
def _eye(n: int, dtype: str) -> Array:
    """Row i is the one-hot vector of i."""
    return np.eye(n, dtype=dtype)


@cache
def _number(number: float, dtype: str) -> Array:
    """A number as NumPy's own: a Python float costs 0.2 us a call to convert."""
    return np.array(number, dtype)


def _width(x: Array) -> int:
    """How many columns a matrix must have that sums the rows of x.

    One is enough. But an operand that NumPy has to repeat along a row costs 0.6 us a call more than
    one of equal shape, so a small x takes a square: its product is every sum, repeated.
    """
    return x.shape[-1] if x.size <= SMALL else 1


def _index(ids: Sequence[int]) -> Array:
    return np.fromiter(ids, np.intp, len(ids))


def _exp(x: Array, seen: Array | None = None) -> None:
    """e^x in place, a row at a factor of its own at will; 0 where `seen` is 0.

    A row's maximum is taken off only where a number is so large that a sum might overflow or vanish:
    softmax does not see the factor, and NumPy takes longer to find the maxima than for all the rest.
    """
    limit = 300.0 if x.dtype == np.float64 else 40.0
    flat = x.reshape(-1)
    # The sum of squares bounds them all in one call of 0.3 us; mostly it is enough.
    if not (flat.dot(flat) < limit * limit or np.maximum.reduce(np.abs(flat)) < limit):
        if seen is not None:
            np.copyto(x, -math.inf, where=seen == 0)
        x -= np.maximum.reduce(x, -1, keepdims=True)
    np.exp(x, x)
    if seen is not None:
        x *= seen


def _node(data: Array, parents: tuple[Node, ...], back: Back) -> Node:
    """A node; without what it came from, where no gradient will be asked for."""
    for parent in parents:
        if parent.needs:
            return Node(data, parents, back)
    return Node(data)


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
