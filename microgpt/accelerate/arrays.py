"""Small arrays made once, and what the fused operations have in common."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain

import numpy as np

from microgpt.accelerate.node import Array
from microgpt.core.engine.base import Spans

SMALL = 2048  # numbers; below, a call to NumPy costs more than what it computes
MANY = 1024  # ids; above, one-hot rows take more than they give


@cache
def full(rows: int, columns: int, value: float, dtype: str) -> Array:
    """A constant `[rows][columns]`."""
    return np.full((rows, columns), value, dtype)


@cache
def _eye(n: int, dtype: str) -> Array:
    return np.eye(n, dtype=dtype)


def indices(ids: Sequence[int]) -> Array:
    """Ids as an array; `fromiter` takes 0.6 of the time of `np.array`."""
    return np.fromiter(ids, np.intp, len(ids))


def one_hot(ids: Array, n: int, dtype: str) -> Array:
    """Row t is 1 at ids[t] and 0 elsewhere: `[T][n]`."""
    if n <= MANY:
        return _eye(n, dtype).take(ids, 0)
    rows = np.zeros((len(ids), n), dtype)
    rows[np.arange(len(ids)), ids] = 1
    return rows


@cache
def number(value: float, dtype: str) -> Array:
    """A number as NumPy's own: a Python float costs 0.2 us a call to convert."""
    return np.array(value, dtype)


@lru_cache(64)
def distance(queries: int, keys: int) -> Array:
    """How far each key lies before each query, the last of them together; below 0 if yet to come."""
    steps = np.arange(keys)
    return steps[keys - queries :, None] - steps


@lru_cache(64)
def seen(batch: int, n_head: int, queries: int, keys: int, dtype: str) -> Array:
    """1 where a query sees a key, 0 elsewhere: `[queries][keys]`, repeated where that is small."""
    mask = (distance(queries, keys) >= 0).astype(dtype)
    shape = (batch, n_head, queries, keys)
    return np.broadcast_to(mask, shape).copy() if math.prod(shape) <= SMALL else mask


class Padding:
    """How the rows of documents become a batch, each padded to the longest, and back."""

    def __init__(self, spans: Spans, dtype: str) -> None:
        # 30 us for 32 documents, whose lengths hardly ever come again: so it is kept short.
        bounds = np.fromiter(chain.from_iterable(spans), np.intp, 2 * len(spans)).reshape(-1, 2)
        starts = bounds[:, :1]
        lengths = bounds[:, 1:] - starts
        self.batch, self.longest = len(spans), int(np.maximum.reduce(lengths, None))
        steps = indices(range(self.longest))
        places = steps + starts
        valid = places < bounds[:, 1:]  # [batch][longest]
        self.needed = self.batch * self.longest > int(np.add.reduce(lengths, None))
        self.gather = np.minimum(places, bounds[-1, 1] - 1).reshape(-1)
        self.scatter = valid.reshape(-1).nonzero()[0]
        self.valid = valid.astype(dtype)[:, None, :, None]


def width(x: Array) -> int:
    """How many columns a matrix must have that sums the rows of x.

    One is enough. But an operand that NumPy has to repeat along a row costs 0.6 us a call more than
    one of equal shape, so a small, narrow x takes a square: its product is every sum, repeated.
    """
    return x.shape[-1] if x.size <= SMALL and x.shape[-1] <= 32 else 1


def exp_rows(x: Array, seen: Array | None = None) -> None:
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
