"""Recording of operations on tapes, and their deferred computation."""

import sys
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypeAlias

from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import check_loss, check_operand
from microgpt.native.matrix import Bridge, Recorded, Recording, Stored, leaf
from microgpt.native.replay import Ids, Watch
from microgpt.native.tape import Memory, Tape, bits, integers

Matrix: TypeAlias = Any  # a Recorded or Stored; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]

LIMIT = 8 << 20  # bytes of a tape without gradients, after which a new recording begins
ASK = -2  # not a recording's number: `_look` must decide whether the last recording continues
_numbers = count()


class Recorder(Engine):
    """The base of the native engine, without its operations.

    Operations are recorded, and computed when a value is read. After `backward` a new recording
    begins; it reuses the memory of the last one unless a matrix of that is still referenced.
    """

    def __init__(self) -> None:
        self._pool: list[Tape] = []
        self._recording = Recording(next(_numbers), Tape(), self._pool)
        self._number = self._recording.number  # or ASK
        self._unused = self._references()
        self._limit = LIMIT
        self._lib = self._recording.tape.lib
        self.watch: Watch | None = None

    def shape(self, x: Matrix) -> tuple[int, int]:
        return x.rows, x.n

    def backward(self, loss: Matrix) -> None:
        check_loss((loss.rows, loss.n), loss.traced)
        self._touch()
        if isinstance(loss, Stored):
            self._bind(loss)
        first: Recording = loss.owner or self._recording
        waiting: dict[Recording, dict[int, int | None]] = {first: {loss.node: None}}
        while waiting:  # in reverse order of creation, as within a recording
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
        self._number = ASK

    def begin(self) -> Recording:
        """Begins a new recording."""
        self._recording.spent = True
        self._look()
        return self._recording

    def forget(self) -> None:
        """Begin anew unless nothing is recorded, which would have to be told of every changed number."""
        if self._recording.leaves:
            self.begin()

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
        """Records an operation on a, or on a and b; returns its result."""
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
        """Makes a leaf of a stored matrix, or of one from an earlier recording. Raises ValueError."""
        if self._number == ASK:
            self._look()
            if x.number == self._number:
                return x.node
        if x.ops is not self:
            raise ValueError("the matrix is another engine's")
        recording = self._recording
        node = recording.count
        if isinstance(x, Stored):
            if self.watch is not None:
                self.watch.leaves.append((len(recording.code), x))
            recording.leaves.append(x)
            recording.code += x.leaf
            recording.count = node + 1
            recording.traced |= x.traced
            x.number, x.node = self._number, node
            return node
        return self._bind_recorded(recording, x)

    def _bind_recorded(self, recording: Recording, x: Recorded) -> int:
        """Makes a leaf of a matrix from an earlier recording; its gradient is propagated back there."""
        assert x.owner is not None
        self._touch()
        bridge: Bridge | None = recording.bridges.get(id(x))
        if bridge is not None:
            return bridge.node
        node = recording.count
        places: tuple[int, ...] = ()
        if x.traced:
            bridge = recording.bridges[id(x)] = Bridge(x, node)
            places = bridge.gradient.address, bridge.given.buffer_info()[0]
        else:
            recording.held.append(x.owner)
        recording.code += leaf(x, self._address(x), *places)
        recording.traced |= x.traced
        recording.count += 1
        return node

    def _references(self) -> int:
        """The number of references to the recording; each of its matrices holds one."""
        return sys.getrefcount(self._recording)

    def _look(self) -> None:
        """Begins a new recording unless the current one continues; reuses an unreferenced tape."""
        used = self._references() > self._unused
        recording = self._recording
        if not used:  # pending results are unreachable
            tape, recording.pool = recording.tape, None
        else:
            self._flush(recording)
            if recording.traced and not recording.spent:
                self._number, self._limit = recording.number, 2 * self._limit
                return
            if not recording.traced:
                recording.held.clear()
            tape = self._pool.pop() if self._pool else Tape()
        tape.reset()
        self._limit = LIMIT
        self._recording = Recording(next(_numbers), tape, self._pool)
        self._number = self._recording.number

    def _flush(self, recording: Recording) -> None:
        """Computes the pending operations of a recording."""
        if not recording.code:
            return
        recording.program, recording.code = integers(recording.code), []
        try:
            in_use = recording.tape.run(recording.program)
        except (ValueError, MemoryError):
            recording.spent, self._number = True, ASK
            raise
        if in_use > self._limit and recording is self._recording:
            self._number = ASK

    def _touch(self) -> None:
        """Marks the pass as not replayable, since values are read or changed outside the tape."""
        if self.watch is not None:
            self.watch.touched = True

    def _address(self, x: Matrix) -> int:
        """The address of a matrix's numbers, which are computed first."""
        if isinstance(x, Stored):
            return x.address
        self._flush(x.owner)
        return int(x.owner.tape.address(x.node))

    def _changed(self, memory: Memory) -> None:
        """Unbinds the leaves in this memory, whose numbers have changed."""
        for x in self._recording.leaves:  # not removed: recorded code may read them
            if x.memory is memory:
                x.number = -1
