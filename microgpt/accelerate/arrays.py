"""Cached small arrays, and helpers of the fused operations."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain

import numpy as np

from microgpt.accelerate.node import Array
from microgpt.core.engine.shapes import Spans

SMALL = 2048  # numbers; below, the overhead of a NumPy call exceeds its arithmetic
UNSIGNED, SIGNED = np.dtype(np.uintp), np.dtype(np.intp)  # NumPy looks up a type in each call
MANY = 1024  # rows of a table; above, a product with one-hot rows is slower than adding row by row


@cache
def full(rows: int, columns: int, value: float, dtype: str) -> Array:
    """A constant `[rows][columns]`."""
    return np.full((rows, columns), value, dtype)


@cache
def _eye(n: int, dtype: str) -> Array:
    return np.eye(n, dtype=dtype)


def indices(ids: Sequence[int]) -> Array:
    """Ids as an array; raises OverflowError for a negative one, which NumPy would count from the end.

    `fromiter` takes 0.6 of the time of `np.array`.
    """
    return np.fromiter(ids, UNSIGNED, len(ids)).view(SIGNED)


def one_hot(ids: Array, n: int, dtype: str) -> Array:
    """Row t is 1 at ids[t] and 0 elsewhere: `[T][n]`."""
    if n <= MANY:
        return _eye(n, dtype).take(ids, 0)
    rows = np.zeros((len(ids), n), dtype)
    rows[np.arange(len(ids)), ids] = 1
    return rows


@cache
def number(value: float, dtype: str) -> Array:
    """A number as a NumPy array; converting a Python float takes 0.2 us per call."""
    return np.array(value, dtype)


@lru_cache(64)
def distance(queries: int, keys: int) -> Array:
    """`[queries][keys]`, the distance from each key to each query; negative for later keys.

    The last query and the last key have the same position.
    """
    steps = np.arange(keys)
    return steps[keys - queries :, None] - steps


@lru_cache(64)
def seen(shape: tuple[int, ...], dtype: str) -> Array:
    """The causal mask of scores `[batch][n_head][queries][keys]`, 1 or 0.

    `[queries][keys]`, repeated to all batches and heads if that is small.
    """
    mask = (distance(*shape[2:]) >= 0).astype(dtype)
    return np.broadcast_to(mask, shape).copy() if math.prod(shape) <= SMALL else mask


class Padding:
    """Indices that pad documents to the length of the longest, and that remove the padding."""

    def __init__(self, spans: Spans, dtype: str) -> None:
        # 30 us for 32 documents; the lengths rarely repeat, so a cache would not help.
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


@lru_cache(256)
def summing(shape: tuple[int, ...], share: float, dtype: str) -> Array:
    """A matrix whose product with rows of this shape is the sum of each row, times `share`.

    One column suffices. But broadcasting an operand along a row costs 0.6 us per call more than one
    of equal shape, so for few and short rows the matrix is square, and the product repeats each sum.
    """
    n = shape[-1]
    return full(n, n if math.prod(shape) <= SMALL and n <= 32 else 1, share, dtype)


def exp_rows(x: Array, out: Array | None = None, seen: Array | None = None) -> Array:
    """e^x, up to a factor per row, which cancels in softmax; 0 where `seen` is 0.

    The row's maximum is subtracted only if some number is large enough for a sum to overflow or
    vanish, since finding the maxima takes NumPy longer than everything else.
    """
    limit = 300.0 if x.itemsize == 8 else 40.0
    flat = x.reshape(-1)
    # The sum of squares bounds all numbers in one call of 0.3 us, and usually suffices.
    if not (flat.dot(flat) < limit * limit or np.maximum.reduce(np.abs(flat)) < limit):
        if seen is not None:
            x = np.where(seen == 0, -math.inf, x)
        x = x - np.maximum.reduce(x, -1, keepdims=True)
    out = np.exp(x, out)
    if seen is not None:
        out *= seen
    return out
