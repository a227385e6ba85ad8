"""Matrices of the native engine, and the recordings that they belong to."""

from array import array

from microgpt.core.engine.base import Engine, Matrix
from microgpt.native import tape as op
from microgpt.native.tape import Memory, Tape


class Recording:
    """The operations recorded on a tape until its next reset. Its matrices hold a reference to it.

    `number` identifies a recording. A matrix with another number is bound as a leaf before use.
    """

    __slots__ = (
        *("bridges", "code", "count", "held", "leaves", "number", "pool", "program", "spent"),
        *("tape", "traced"),
    )

    def __init__(self, number: int, tape: Tape, pool: list[Tape]) -> None:
        self.number, self.tape = number, tape
        self.pool: list[Tape] | None = pool  # receives the tape when the recording is freed
        self.code: list[int] = []  # recorded, not yet run
        self.program = array("q")  # the code that ran last
        self.count = 0  # number of nodes
        self.leaves: list[Stored] = []  # bound on this tape
        self.held: list[Recording] = []  # recordings whose numbers this tape reads
        self.bridges: dict[int, Bridge] = {}  # by the id of the matrix
        self.traced = False  # whether some node needs a gradient
        self.spent = False  # whether `backward` has run: the next operation begins a new recording

    def __del__(self) -> None:
        if self.pool is not None and len(self.pool) < 2:
            self.pool.append(self.tape)


class Bridge:
    """A matrix of an earlier recording as a leaf of this one; its gradient is propagated back there."""

    __slots__ = ("given", "gradient", "matrix", "node")

    def __init__(self, matrix: "Recorded", node: int) -> None:
        self.matrix, self.node = matrix, node
        self.gradient = Memory(matrix.rows * matrix.n)
        self.given = array("q", [0])


class Recorded(Matrix):
    """A node of a tape."""

    __slots__ = ("n", "node", "number", "ops", "owner", "rows", "traced")

    def __init__(
        self,
        ops: Engine,
        number: int,
        node: int,
        rows: int,
        n: int,
        traced: bool,
        owner: "Recording | None",
    ) -> None:
        self.ops, self.number, self.node, self.owner = ops, number, node, owner
        self.rows, self.n, self.traced = rows, n, traced


class Stored(Recorded):
    """A matrix whose numbers are not on a tape: a weight, slot, gradient or constant."""

    __slots__ = ("address", "at", "gradient", "leaf", "memory")

    def __init__(
        self,
        ops: Engine,
        memory: Memory,
        at: int,
        rows: int,
        n: int,
        gradient: "Gradient | None" = None,
    ) -> None:
        super().__init__(ops, -1, -1, rows, n, gradient is not None, None)
        self.memory, self.at, self.gradient = memory, at, gradient
        self.address = memory.address + 8 * at
        places = (0, 0) if gradient is None else gradient.addresses()
        self.leaf = leaf(self, self.address, *places)

    @property
    def size(self) -> int:
        """The number of entries."""
        return self.rows * self.n

    def read(self) -> list[float]:
        """The values, row by row."""
        return self.memory.read(self.at, self.rows * self.n)


class Gradient:
    """The accumulator of a weight's gradient, and a flag that is set if it holds one."""

    __slots__ = ("at", "given", "memory", "which")

    def __init__(self, memory: Memory, at: int, given: "array[int]", which: int) -> None:
        self.memory, self.at, self.given, self.which = memory, at, given, which

    def addresses(self) -> tuple[int, int]:
        """The addresses of the numbers and of the flag."""
        return self.memory.address + 8 * self.at, self.given.buffer_info()[0] + 8 * self.which


def leaf(x: Recorded, address: int, gradient: int = 0, given: int = 0) -> tuple[int, ...]:
    """The instruction that makes a leaf of numbers outside the tape."""
    return op.LEAF, x.traced, x.rows, x.n, 0, 0, 3, address, gradient, given
