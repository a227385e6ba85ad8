"""The tape: operation codes, and the C object that runs programs."""

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from struct import Struct, pack
from typing import Any

from microgpt.native.library import library

# In the order of OPERATIONS in tape.c.
(
    LEAF,
    DETACHED,
    GATHER,
    CONCAT_ROWS,
    COLUMNS,
    CONCAT_COLUMNS,
    TRANSPOSE,
    PICK,
    ADD,
    MUL,
    DIV,
    ADD_NUMBER,
    MUL_NUMBER,
    DIV_NUMBER,
    LINEAR,
    ROW_SUM,
    ROW_MAX,
    SIGN,
    RELU,
    EXP,
    LOG,
    TANH,
    POW,
    SOFTMAX,
    RMSNORM,
    CROSS_ENTROPY,
    ATTENTION,
) = range(27)

_pack_double, _unpack_integer = Struct("d").pack, Struct("q").unpack

PROBLEMS: dict[int, Exception] = {
    -1: MemoryError("the tape has no room left"),
    -2: ValueError("an id is out of range: there is no such row or column"),
}


def checked(result: int) -> int:
    """The result of a function of the library. Raises IndexError or MemoryError for an error code."""
    if result < 0:
        raise PROBLEMS[result]
    return result


class Memory:
    """A buffer of doubles owned by Python, aligned to a cache line."""

    __slots__ = ("_numbers", "_skipped", "address", "size")

    def __init__(self, n: int) -> None:
        self.size = n
        self._numbers = array("d", bytes(8 * (n + 8)))
        address = self._numbers.buffer_info()[0]
        self._skipped = -address % 64 // 8
        self.address = address + 8 * self._skipped

    def read(self, at: int, n: int) -> list[float]:
        """n numbers from index `at`."""
        return self.part(at, n).tolist()

    def write(self, at: int, numbers: "array[float]") -> None:
        """Writes the numbers from index `at`."""
        at += self._skipped
        self._numbers[at : at + len(numbers)] = numbers

    def part(self, at: int, n: int) -> "array[float]":
        """A copy of n numbers from index `at`."""
        at += self._skipped
        return self._numbers[at : at + n]


class Tape:
    """A C object with nodes and memory for their numbers; `reset` keeps the memory."""

    __slots__ = ("_free", "c", "lib")

    def __init__(self) -> None:
        self.lib = library()
        self.c: int = self.lib.tape_new()
        if not self.c:
            raise PROBLEMS[-1]
        self._free: Any = self.lib.tape_free  # the module may be unloaded before the last tape

    def __del__(self) -> None:
        if getattr(self, "c", None):
            self._free(self.c)

    def run(self, program: "array[int]") -> int:
        """Appends a program and runs it; returns the bytes of memory in use."""
        return checked(self.lib.tape_run(self.c, program.buffer_info()[0], len(program)))

    def reset(self) -> None:
        """Removes all nodes."""
        self.lib.tape_reset(self.c)

    def backward(self, gradients: Mapping[int, int | None]) -> None:
        """Backpropagates to the leaves; `gradients` maps nodes to the addresses of theirs, None is 1."""
        for node, address in gradients.items():
            checked(self.lib.tape_give(self.c, node, address))
        checked(self.lib.tape_backward(self.c, max(gradients)))

    def address(self, node: int) -> int:
        """The address of a node's numbers."""
        return int(self.lib.tape_numbers(self.c, node))


def numbers_at(address: int, n: int) -> list[float]:
    """n numbers at an address."""
    return (ctypes.c_double * n).from_address(address)[:]


def integers(numbers: Sequence[int]) -> "array[int]":
    """As a program holds them; from a list, `array` itself takes twice as long."""
    return array("q", pack(f"{len(numbers)}q", *numbers))


def bits(number: float) -> int:
    """A double as the 64-bit integer that a program holds."""
    return int(_unpack_integer(_pack_double(number))[0])


def functions(name: str, points: Sequence[float], power: float = 0.0) -> list[float]:
    """The library's values of the function `name` of `microgpt.core.exact` at these points."""
    memory, n = Memory(len(points)), len(points)
    memory.write(0, array("d", points))
    which = ("exp_row", "log", "tanh", "pow", "exp").index(name)
    library().function_of(memory.address, memory.address, n, which, power)
    return memory.read(0, n)
