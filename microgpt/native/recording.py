"""The native engine: Python writes the tape as integers, C runs it forward and back."""

import ctypes
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Any, TypeAlias

from microgpt.core.data import Batch
from microgpt.core.engine import base
from microgpt.core.engine.base import (
    Bias,
    Engine,
    Forward,
    Rows,
    Spans,
    Updates,
    check_bias,
    check_columns,
    check_operand,
    check_rows,
    shares,
)
from microgpt.native import tape as op
from microgpt.native.library import facts
from microgpt.native.matrix import Bridge, Gradient, Recorded, Recording, Stored
from microgpt.native.replay import Ids, Replays, Watch
from microgpt.native.tape import Memory, Tape, bits, numbers_at

Matrix: TypeAlias = Any  # a Recorded or Stored; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]

LIMIT = 8 << 20  # bytes of a tape that nobody goes back on, before it begins anew
_numbers = count()


class NativeEngine(Engine):
    """The vector engine's arithmetic, bit by bit, in C.

    An operation is recorded; the numbers are computed once they are asked for. After `backward` a
    recording begins anew, on the same memory unless someone still holds a matrix of the last.
    """

    arithmetic = "exact"

    def __init__(self) -> None:
        self._pool: list[Tape] = []
        self._recording = Recording(next(_numbers), Tape(), self._pool)
        self._number = self._recording.number  # -2: see first whether the recording goes on
        self._unused = self._references()
        self._limit = LIMIT
        self.watch: Watch | None = None
        self._replays = Replays(self)
        self._joined: dict[int, tuple[Weights, Weights, Weights]] = {}
        self._views: tuple[Weights, dict[str, Stored]] | None = None
        self._lib = self._recording.tape.lib

    def depends_on(self) -> dict[str, str]:
        return facts()

    # Numbers in and out

    def parameter(self, rows: Rows) -> Matrix:
        return self.parameters({"": rows})[""]

    def parameters(self, rows: Mapping[str, Rows]) -> dict[str, base.Matrix]:
        stored = self._stored({name: _shape(numbers) for name, numbers in rows.items()})
        given = array("q", bytes(8 * len(rows)))
        gradients = Memory(sum(x.size for x in stored.values()))
        for which, (name, x) in enumerate(stored.items()):
            x.memory.write(x.at, _flat(rows[name], x.n))
            x.gradient, x.traced = Gradient(gradients, x.at, given, which), True
        return dict(stored)

    def constant(self, rows: Rows) -> Matrix:
        x = self._stored({"": _shape(rows)})[""]
        x.memory.write(0, _flat(rows, x.n))
        return x

    def zeros_like(self, matrices: Weights) -> dict[str, base.Matrix]:
        return dict(self._stored_like(matrices))

    def detached(self, x: Matrix) -> Matrix:
        if isinstance(x, Stored):
            return Stored(self, x.memory, x.at, x.rows, x.n)
        return self._new(op.DETACHED, x.rows, x.n, x, traced=False) if x.traced else x

    def values(self, x: Matrix) -> Rows:
        numbers, n = self._read(x), x.n
        return [numbers[i : i + n] for i in range(0, len(numbers), n)]

    def shape(self, x: Matrix) -> tuple[int, int]:
        return x.rows, x.n

    def backward(self, loss: Matrix) -> None:
        if not loss.traced:
            raise ValueError("the loss does not depend on a weight")
        self._touch()
        if isinstance(loss, Stored):
            self._bind(loss)
        first: Recording = loss.owner or self._recording
        waiting: dict[Recording, dict[int, int | None]] = {first: {loss.node: None}}
        while waiting:  # the youngest first, as within a recording
            recording = max(waiting, key=lambda recording: recording.number)
            self._flush(recording)
            recording.tape.backward(waiting.pop(recording))
            recording.spent = True
            for bridge in recording.bridges.values():
                if bridge.given[0]:
                    bridge.given[0] = 0
                    x, address = bridge.matrix, bridge.gradient.address
                    assert x.owner is not None
                    waiting.setdefault(x.owner, {})[x.node] = address
        self._number = -2

    def gradients(self, weights: Weights) -> dict[str, base.Matrix]:
        self._touch()
        found = self._stored_like(weights)
        for name, w in weights.items():
            if w.gradient is not None and w.gradient.given[w.gradient.which]:
                found[name].memory.write(
                    found[name].at, w.gradient.memory.part(w.gradient.at, w.size)
                )
                w.gradient.given[w.gradient.which] = 0
        return dict(found)

    def assign(self, target: Matrix, source: Matrix) -> None:
        if isinstance(source, Stored) and source.memory is target.memory and source.at == target.at:
            return  # it was changed in place
        _same_shape(target, source)
        self._touch()
        self._flush(self._recording)
        ctypes.memmove(target.address, self._address(source), 8 * target.size)
        self._changed(target.memory)

    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        return {name: self._read(x) for name, x in matrices.items()}

    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        self._touch()
        self._flush(self._recording)
        for name, x in matrices.items():
            x.memory.write(x.at, _flat([flat[name]], x.size))
            self._changed(x.memory)

    # Rows and columns

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        return self._new(op.GATHER, len(ids), x.n, x, ints=ids)

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        _same("columns", {x.n for x in xs})
        return self._joining(op.CONCAT_ROWS, sum(x.rows for x in xs), xs[0].n, xs)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        if not 0 <= start < stop <= x.n:
            raise IndexError(f"columns {start} to {stop} of {x.n}")
        return self._new(op.COLUMNS, x.rows, stop - start, x, ints=(start,))

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows((x.rows, x.n) for x in xs)
        return self._joining(op.CONCAT_COLUMNS, xs[0].rows, sum(x.n for x in xs), xs)

    def transpose(self, x: Matrix) -> Matrix:
        return self._new(op.TRANSPOSE, x.n, x.rows, x)

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        _same("rows", {x.rows, len(ids)})
        return self._new(op.PICK, x.rows, 1, x, ints=ids)

    # Arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.ADD, op.ADD_NUMBER, a, b)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.MUL, op.MUL_NUMBER, a, b)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        return self._pair(op.DIV, op.DIV_NUMBER, a, b)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        if x.n != w.n:
            check_columns((x.rows, x.n), (w.rows, w.n))
        return self._new(op.LINEAR, x.rows, w.rows, x, w)

    def row_sum(self, x: Matrix) -> Matrix:
        return self._new(op.ROW_SUM, x.rows, 1, x)

    def row_max(self, x: Matrix) -> Matrix:
        return self._new(op.ROW_MAX, x.rows, 1, x, traced=False)

    def sign(self, x: Matrix) -> Matrix:
        return self._new(op.SIGN, x.rows, x.n, x, traced=False)

    def relu(self, x: Matrix) -> Matrix:
        return self._new(op.RELU, x.rows, x.n, x)

    def exp(self, x: Matrix) -> Matrix:
        return self._new(op.EXP, x.rows, x.n, x)

    def log(self, x: Matrix) -> Matrix:
        return self._new(op.LOG, x.rows, x.n, x)

    def tanh(self, x: Matrix) -> Matrix:
        return self._new(op.TANH, x.rows, x.n, x)

    def pow(self, x: Matrix, power: float) -> Matrix:
        return self._new(op.POW, x.rows, x.n, x, ints=(bits(power),))

    # Fused where the vector engine fuses

    def softmax(self, x: Matrix) -> Matrix:
        return self._new(op.SOFTMAX, x.rows, x.n, x)

    def rmsnorm(self, x: Matrix, eps: float) -> Matrix:
        return self._new(op.RMSNORM, x.rows, x.n, x, ints=(bits(eps),))

    def cross_entropy(self, logits: Matrix, targets: Sequence[int]) -> Matrix:
        _same("rows", {logits.rows, len(targets)})
        return self._new(op.CROSS_ENTROPY, logits.rows, 1, logits, ints=targets)

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
        _check_attention(q, k, v, n_head, spans)
        check_bias(bias, n_head, spans)
        scale = 1 / math.sqrt(q.n // n_head) if scale is None else scale
        far = -1
        if bias is not None:
            longest = max(stop - start for start, stop in spans)
            far = self._at(self.constant([list(row[:longest]) for row in bias]))
        ints = [self._at(v), far, n_head, bits(scale), *chain.from_iterable(spans)]
        traced = q.traced or k.traced or v.traced
        return self._new(op.ATTENTION, q.rows, q.n, q, k, ints, traced)

    # Training

    def joined(self, matrices: Weights) -> Weights:
        """All numbers as one row, if they lie one after another in memory.

        So do those of `parameters`, and of gradients and slots for such weights.
        """
        entry = self._joined.get(id(matrices))
        if entry is not None and entry[0] is matrices and entry[1] == matrices:
            return entry[2]
        row = matrices
        if _adjacent(matrices):
            first, size = next(iter(matrices.values())), sum(x.size for x in matrices.values())
            row = {"": Stored(self, first.memory, first.at, 1, size)}
        if len(self._joined) > 16:
            self._joined.clear()
        self._joined[id(matrices)] = matrices, dict(matrices), row
        return row

    def global_norm(self, matrices: Weights) -> float:
        total = 0.0
        for x in self.joined(matrices).values():
            total = self._lib.square_sum(total, self._address(x), x.rows * x.n)
        return math.sqrt(total)

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
        _same_shape(p, g, m, v)
        self._flush(self._recording)
        places = [self._address(x) for x in (p, g, m, v)]
        self._lib.adam_step(*places, p.rows * p.n, beta1, beta2, rate, eps)
        if self._recording.leaves:
            for x in (p, m, v):
                if isinstance(x, Stored):
                    self._changed(x.memory)
        return p, m, v

    def step(
        self,
        forward: Forward,
        weights: Weights,
        batches: Sequence[Batch],
        optimizer: Updates,
        *,
        lr: float,
        clip_norm: float | None,
        measured: bool,
    ) -> tuple[float, float]:
        """As in `Engine`; a pass of a shape that is known is replayed."""
        loss = 0.0
        for batch, share in zip(batches, shares(batches)):
            loss += share * self._replays.run(forward, weights, batch, share)
            if not math.isfinite(loss):
                return loss, math.nan
        gradients = self._gradients_in_place(weights)
        norm = self.global_norm(gradients) if clip_norm or measured else 0.0
        scale = clip_norm / norm if clip_norm and norm > clip_norm else 1.0
        optimizer.step(self, gradients, lr, scale)
        return loss, norm

    # Recording

    def begin(self) -> Recording:
        """A recording in which nothing is recorded yet."""
        self._recording.spent = True
        self._look()
        return self._recording

    def _new(
        self,
        operation: int,
        rows: int,
        n: int,
        a: Matrix,
        b: Matrix = None,
        ints: Sequence[int] = (),
        traced: bool | None = None,
    ) -> Matrix:
        """Record an operation on a, or on a and b; returns its result."""
        at = a.node if a.number == self._number else self._bind(a)
        other = 0
        if b is not None:
            other = b.node if b.number == self._number else self._bind(b)
        if traced is None:
            traced = a.traced or (b is not None and b.traced)
        recording = self._recording
        code, node = recording.code, recording.count
        code += (operation, traced, rows, n, at, other, len(ints))
        if type(ints) is Ids:
            ints = ints.recorded(len(code))
        code += ints
        recording.count = node + 1
        if traced:
            recording.traced = True
        return Recorded(self, self._number, node, rows, n, traced, recording)

    def _joining(self, operation: int, rows: int, n: int, xs: Sequence[Matrix]) -> Matrix:
        ids = [self._at(x) for x in xs]
        return self._new(operation, rows, n, xs[0], None, ids, any(x.traced for x in xs))

    def _pair(self, operation: int, with_number: int, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Recorded):
            return self._new(with_number, a.rows, a.n, a, ints=(bits(b),))
        if (b.rows != a.rows and b.rows != 1) or (b.n != a.n and b.n != 1):
            check_operand((a.rows, a.n), (b.rows, b.n))
        return self._new(operation, a.rows, a.n, a, b)

    def _at(self, x: Recorded) -> int:
        """The node of a matrix in this recording."""
        return x.node if x.number == self._number else self._bind(x)

    def _bind(self, x: Recorded) -> int:
        """A node of this recording for what is stored, or was recorded before."""
        if self._number == -2:
            self._look()
        if x.number == self._number:
            return x.node
        if x.ops is not self:
            raise ValueError("the matrix is another engine's")
        if isinstance(x, Stored):
            return self._bind_stored(x)
        self._touch()
        recording = self._recording
        if not x.traced:
            assert x.owner is not None
            recording.held.append(x.owner)
            return self._leaf(x, self._address(x))
        bridge: Bridge | None = recording.bridges.get(id(x))
        if bridge is None:
            bridge = recording.bridges[id(x)] = Bridge(x, recording.count)
            addresses = bridge.gradient.address, bridge.given.buffer_info()[0]
            self._leaf(x, self._address(x), *addresses)
        return bridge.node

    def _bind_stored(self, x: Stored) -> int:
        recording = self._recording
        if self.watch is not None:
            self.watch.leaves.append((len(recording.code), x))
        recording.leaves.append(x)
        addresses = x.gradient.addresses() if x.gradient is not None else (0, 0)
        x.number, x.node = self._number, self._leaf(x, x.address, *addresses)
        return x.node

    def _leaf(self, x: Recorded, address: int, gradient: int = 0, given: int = 0) -> int:
        """A node for numbers that are not this tape's."""
        recording = self._recording
        recording.code += (op.LEAF, x.traced, x.rows, x.n, 0, 0, 3, address, gradient, given)
        recording.traced |= x.traced
        recording.count += 1
        return recording.count - 1

    def _references(self) -> int:
        """How many references there are to the recording; each of its matrices holds one."""
        return sys.getrefcount(self._recording)

    def _look(self) -> None:
        """Begin anew, on the same tape if nobody holds a matrix of it, unless the recording goes on."""
        recording = self._recording
        self._flush(recording)
        del recording
        used = self._references() > self._unused
        recording = self._recording
        if used and recording.traced and not recording.spent:
            self._number, self._limit = recording.number, 2 * self._limit
            return
        self._limit = LIMIT
        if used:
            if not recording.traced:
                recording.held.clear()
            tape = self._pool.pop() if self._pool else Tape()
        else:
            tape, recording.pool = recording.tape, None
        tape.reset()
        self._recording = Recording(next(_numbers), tape, self._pool)
        self._number = self._recording.number

    def _flush(self, recording: Recording) -> None:
        """Compute what is pending."""
        if not recording.code:
            return
        code, recording.code = recording.code, []
        try:
            in_use = recording.tape.run(code)
        except (IndexError, MemoryError):
            recording.spent, self._number = True, -2
            raise
        if in_use > self._limit and recording is self._recording:
            self._number = -2

    def _touch(self) -> None:
        """Numbers are read or changed outside the tape: what is being recorded cannot be replayed."""
        if self.watch is not None:
            self.watch.touched = True

    # Numbers

    def _read(self, x: Matrix) -> list[float]:
        self._touch()
        if isinstance(x, Stored):
            return x.read()
        return numbers_at(self._address(x), x.rows * x.n)

    def _address(self, x: Matrix) -> int:
        """Where the numbers of a matrix are, once they are computed."""
        if isinstance(x, Stored):
            return x.address
        self._flush(x.owner)
        return int(x.owner.tape.address(x.node))

    def _stored(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Stored]:
        """Zeros of these shapes, one after another in memory."""
        memory, at, stored = Memory(sum(rows * n for rows, n in shapes.values())), 0, {}
        for name, (rows, n) in shapes.items():
            stored[name] = Stored(self, memory, at, rows, n)
            at += rows * n
        return stored

    def _stored_like(self, matrices: Weights) -> dict[str, Stored]:
        """Zeros of the same shapes, one after another in memory if those of `matrices` are."""
        shapes = {name: (x.rows, x.n) for name, x in matrices.items()}
        if _adjacent(matrices):
            return self._stored(shapes)
        return {name: self._stored({name: shape})[name] for name, shape in shapes.items()}

    def _changed(self, memory: Memory) -> None:
        """Numbers in this memory are others now: what was made of them on the tape does not count."""
        for x in self._recording.leaves:  # which stay: what is recorded may still read them
            if x.memory is memory:
                x.number = -1

    def _gradients_in_place(self, weights: Weights) -> dict[str, Stored]:
        """The gradients where they are; what follows `backward` next overwrites them."""
        views = self._views
        if views is None or views[0] != weights:
            found = {
                name: Stored(self, w.gradient.memory, w.gradient.at, w.rows, w.n)
                for name, w in weights.items()
            }
            views = self._views = dict(weights), found
        for name, w in weights.items():
            gradient = w.gradient
            if gradient.given[gradient.which]:
                gradient.given[gradient.which] = 0
            else:
                ctypes.memset(views[1][name].address, 0, 8 * w.size)
        return views[1]


def _shape(rows: Rows) -> tuple[int, int]:
    return len(rows), len(rows[0])


def _flat(rows: Sequence[Sequence[float]], n: int) -> "array[float]":
    """Rows of n numbers, one after another."""
    numbers = array("d", chain.from_iterable(rows))
    if len(numbers) != len(rows) * n:
        raise ValueError(f"every row must have {n} numbers")
    return numbers


def _same(what: str, sizes: set[int]) -> None:
    if len(sizes) != 1:
        raise ValueError(f"the {what} differ: {', '.join(map(str, sorted(sizes)))}")


def _same_shape(a: Matrix, *others: Matrix) -> None:
    for x in others:
        if x.rows != a.rows or x.n != a.n:
            raise ValueError(f"[{x.rows}][{x.n}] where [{a.rows}][{a.n}] must be")


def _adjacent(matrices: Weights) -> bool:
    """Whether the numbers of each follow those of the one before."""
    memory, at = None, 0
    for x in matrices.values():
        if not isinstance(x, Stored) or (
            memory is not None and (x.memory is not memory or x.at != at)
        ):
            return False
        memory, at = x.memory, x.at + x.size
    return memory is not None


def _check_attention(q: Matrix, k: Matrix, v: Matrix, n_head: int, spans: Spans) -> None:
    """C reads the numbers without looking at their shapes."""
    _same("shapes of keys and values", {k.rows * k.n, v.rows * v.n})
    head_dim = q.n // n_head
    if q.n % n_head or k.n % head_dim or q.n % k.n or k.n != v.n:
        raise ValueError(f"{n_head} heads of queries [{q.n}] cannot read keys [{k.n}]")
    stop = 0
    for start, end in spans:
        if start != stop or end <= start:
            raise ValueError(f"the spans {list(spans)} are no documents one after another")
        stop = end
    if stop != k.rows or q.rows > stop:
        raise ValueError(f"the spans end at {stop}, with {q.rows} queries and {k.rows} keys")
