"""The weights of a model in flat buffers, and the update rules on them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from microgpt.accelerate.node import Array, Weight
from microgpt.core.exact import power
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.sgd import SGD


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


Rule: TypeAlias = Callable[[Any, Pack, Array | float], None]

# By the very type: a subclass may have an update rule of its own.
RULES: dict[type[Optimizer], Rule] = {
    Adam: _adam,
    AdamW: _adamw,
    SGD: _sgd,
}
