"""Replay: for a batch whose shape was seen before, the model's Python code does not run again.

A pass is recorded as a program. If the programs of two batches of one shape are equal except for the
token and target ids, later batches of that shape run the program with their own ids. A model that
reads token ids or values in Python, or has different constants each time, is recorded at every step.
Two batches may not show that a part behaves differently at times: now and then a pass is recorded
again and compared with the program that was replayed since.
"""

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from microgpt.core.data import Batch
from microgpt.core.engine.base import Forward, Matrix
from microgpt.native.matrix import Recorded, Stored
from microgpt.native.tape import Tape, checked

if TYPE_CHECKING:
    from microgpt.native.operations import NativeEngine

MOST = 256  # number of programs kept
AGAIN = 8  # replays until a pass is recorded again; doubled each time
CHANGED = (
    "a part of the model or the loss does not do the same in every pass, as its contract asks: the steps "
    "so far are not what it says; engine=vector runs it every time"
)
ADDRESS = 7  # its index in the instruction of a leaf
READING = (
    *("__getitem__", "__iter__", "__contains__", "__reversed__", "__add__", "__mul__", "__rmul__"),
    *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__repr__"),
    *("index", "count", "copy", "__setitem__", "__delitem__", "__iadd__", "__imul__"),
    *("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"),
)

Key: TypeAlias = tuple[object, ...]


class Watch:
    """What a recorded pass read that may differ for another batch."""

    def __init__(self) -> None:
        self.touched = False
        self.marks: list[tuple[int, str]] = []  # index in the code, name of the ids
        self.leaves: list[tuple[int, Stored]] = []  # index in the code, matrix


class Ids(list[int]):
    """Tokens or targets that note when Python code reads them; reading `len` is allowed."""

    def __init__(self, ids: list[int], name: str, watch: Watch) -> None:
        super().__init__(ids)
        self.name, self.watch = name, watch

    def recorded(self, position: int) -> list[int]:
        """The ids, for an operation of the engine that writes them at this index of the code."""
        self.watch.marks.append((position, self.name))
        return list.copy(self)


def _read(name: str) -> Any:
    method = getattr(list, name)

    def read(self: Ids, *arguments: Any) -> Any:
        self.watch.touched = True
        return method(self, *arguments)

    return read


for _name in READING:
    setattr(Ids, _name, _read(_name))


@dataclass
class Program:
    """A recorded pass, with its batch."""

    code: "array[int]"
    marks: list[tuple[int, str]]
    leaves: list[tuple[int, Stored]]
    objective: int
    loss: int
    batch: Batch
    ready: bool = False  # a second batch had the same program
    left: int = AGAIN  # replays until it is compared again
    next: int = 2 * AGAIN  # and how many after that

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Zeros for the ids of the last batch."""
        for position, name in self.marks:
            n = len(getattr(self.batch, name))
            self.code[position : position + n] = array("q", bytes(8 * n))

    def is_that_of(self, other: "Program") -> bool:
        """Whether the programs are equal; constants may be equal numbers at other addresses."""
        if (self.marks, self.objective, self.loss) != (other.marks, other.objective, other.loss):
            return False
        if len(self.leaves) != len(other.leaves):
            return False
        code = other.code[:]
        for (position, x), (other_position, y) in zip(self.leaves, other.leaves):
            if position != other_position or not _same_numbers(x, y):
                return False
            code[position + ADDRESS] = self.code[position + ADDRESS]
        return self.code == code


def _same_numbers(x: Stored, y: Stored) -> bool:
    """Whether x and y are the same weight, or bit-identical constants."""
    if x is y:
        return True
    parts = (m.memory.part(m.at, m.size).tobytes() for m in (x, y) if not m.traced)
    return next(parts, None) == next(parts, b"")


class Replays:
    """The programs of one engine for one set of weights, by the shape of the batch."""

    def __init__(self, engine: "NativeEngine") -> None:
        self._ops = engine
        self._programs: dict[Key, Program | None] = {}  # None: not replayable
        self._tape = Tape()
        self._value = array("d", [0.0])
        self._in_vain = False  # no shape is expected to come again: nothing is kept

    def clear(self) -> None:
        """Drops all programs."""
        self._programs.clear()
        self._in_vain = False

    def run(
        self, forward: Forward, weights: Mapping[str, Matrix], batch: Batch, share: float
    ) -> float:
        """A forward pass and, if the loss is finite, a backward pass. Returns the loss.

        The objective is multiplied by `share`. The weights are those of the last call, until `clear`.
        """
        key = forward, share, len(batch.tokens), len(batch.targets), tuple(batch.spans)
        program = self._programs.get(key)
        if program is not None and program.ready:
            if program.left:
                program.left -= 1
                return self._replay(program, batch)
            return self._compared(program, forward, weights, batch, share)
        if program is None and (self._in_vain or key in self._programs):
            return self._record(forward, weights, batch, share)[0]
        loss, now = self._record(forward, weights, batch, share, Watch())
        self._learn(key, program, now)
        return loss

    def _learn(self, key: Key, before: Program | None, now: Program | None) -> None:
        """Compares a program with that of the previous batch of this shape, if any."""
        if before is None:
            if len(self._programs) >= MOST:
                if not any(program is None or program.ready for program in self._programs.values()):
                    self.clear()
                    self._in_vain = True
                    return
                del self._programs[next(iter(self._programs))]
            self._programs[key] = now
        elif now is None or not before.is_that_of(now):
            self._programs[key] = None
        elif (before.batch.tokens, before.batch.targets) != (now.batch.tokens, now.batch.targets):
            before.ready = True

    def _compared(
        self,
        program: Program,
        forward: Forward,
        weights: Mapping[str, Matrix],
        batch: Batch,
        share: float,
    ) -> float:
        """The pass by the model's own code. Raises RuntimeError where that is another program now."""
        loss, now = self._record(forward, weights, batch, share, Watch())
        program.forget()
        if now is None or not program.is_that_of(now):
            raise RuntimeError(CHANGED)
        program.left, program.next = program.next, 2 * program.next
        return loss

    def _replay(self, program: Program, batch: Batch) -> float:
        self._ops.forget()
        code = program.code
        for position, name in program.marks:
            ids = array("q", getattr(batch, name))
            code[position : position + len(ids)] = ids
        tape, value = self._tape, self._value
        checked(
            tape.lib.tape_replay(
                tape.c,
                code.buffer_info()[0],
                len(code),
                program.objective,
                program.loss,
                value.buffer_info()[0],
            )
        )
        return value[0]

    def _record(
        self,
        forward: Forward,
        weights: Mapping[str, Matrix],
        batch: Batch,
        share: float,
        watch: Watch | None = None,
    ) -> tuple[float, Program | None]:
        """Runs the model; returns the loss, and the program if it may be replayed."""
        ops = self._ops
        recording, given = ops.begin(), batch
        if watch is not None:
            given = batch._replace(
                tokens=Ids(batch.tokens, "tokens", watch),
                targets=Ids(batch.targets, "targets", watch),
            )
        ops.watch = watch
        try:
            objective, loss = forward(ops, weights, given)
            if share != 1:
                objective = share * objective
        finally:
            ops.watch = None
        safe = watch is not None and not watch.touched and _both_on(recording, objective, loss)
        ((value,),) = ops.values(loss)
        program = None
        if safe and watch is not None:
            at = _node(objective), _node(loss)
            program = Program(recording.program, watch.marks, watch.leaves, *at, batch)
        if abs(value) < math.inf:
            ops.backward(objective)
        return value, program


def _both_on(recording: object, objective: Matrix, loss: Matrix) -> bool:
    return all(isinstance(x, Recorded) and x.owner is recording for x in (objective, loss))


def _node(x: Matrix) -> int:
    assert isinstance(x, Recorded)
    return x.node
