"""Storage of weights, slots and gradients, contiguous in memory owned by Python."""

import ctypes
import math
from array import array
from collections.abc import Mapping
from itertools import chain

from microgpt.core.engine import base
from microgpt.core.engine.shapes import Rows, check_matrix, check_numbers, check_same
from microgpt.native import tape as op
from microgpt.native.matrix import Gradient, Stored
from microgpt.native.recorder import Matrix, Recorder, Weights
from microgpt.native.tape import Memory, numbers_at


class Storage(Recorder):
    """The native engine without its operations: it makes, reads and writes matrices."""

    def __init__(self) -> None:
        super().__init__()
        self._joined: dict[int, tuple[Weights, Weights, Weights]] = {}
        self._in_place: _Gradients | None = None

    def parameter(self, rows: Rows) -> Matrix:
        return self.parameters({"": rows})[""]

    def parameters(self, rows: Mapping[str, Rows]) -> dict[str, base.Matrix]:
        shapes = {name: check_matrix(numbers) for name, numbers in rows.items()}
        memory, gradients = (Memory(sum(m * n for m, n in shapes.values())) for _ in range(2))
        given, at, weights = array("q", bytes(8 * len(rows))), 0, {}
        for which, (name, (m, n)) in enumerate(shapes.items()):
            memory.write(at, _flat(rows[name]))
            gradient = Gradient(gradients, at, given, which)
            weights[name] = Stored(self, memory, at, m, n, gradient)
            at += m * n
        return dict(weights)

    def constant(self, rows: Rows) -> Matrix:
        x = self._stored({"": check_matrix(rows)})[""]
        x.memory.write(0, _flat(rows))
        return x

    def zeros_like(self, matrices: Weights) -> dict[str, base.Matrix]:
        return dict(self._stored_like(matrices))

    def detached(self, x: Matrix) -> Matrix:
        if not x.traced:
            return x
        if not isinstance(x, Stored):
            return self._new(op.DETACHED, x.rows, x.n, x, traced=False)
        return Stored(self, x.memory, x.at, x.rows, x.n)

    def values(self, x: Matrix) -> Rows:
        numbers, n = self._read(x), x.n
        return [numbers[i : i + n] for i in range(0, len(numbers), n)]

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
        if source is target:
            return  # it was changed in place
        if isinstance(source, Stored) and source.memory is target.memory and source.at == target.at:
            return
        check_same((target.rows, target.n), (source.rows, source.n))
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
            check_numbers((x.rows, x.n), len(flat[name]))
            x.memory.write(x.at, array("d", flat[name]))
            self._changed(x.memory)

    def joined(self, matrices: Weights) -> Weights:
        """All numbers as one row, if they are contiguous in memory.

        Matrices of `parameters` are, and so are their gradients and slots.
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
        self._touch()
        total = 0.0
        for x in self.joined(matrices).values():
            total = self._lib.square_sum(total, self._address(x), x.rows * x.n)
        return math.sqrt(total)

    def gradients_in_place(self, weights: Weights) -> Weights:
        """The gradients without a copy; the next backward pass overwrites them.

        The weights are those of the last call, until `_in_place` is None.
        """
        found = self._in_place
        if found is None:
            if any(w.gradient is None for w in weights.values()):
                return self.gradients(weights)
            found = self._in_place = _Gradients(self, weights)
        found.complete()
        if self._recording.leaves:
            for x in found.matrices.values():
                self._changed(x.memory)
        return found.matrices

    def _read(self, x: Matrix) -> list[float]:
        self._touch()
        if isinstance(x, Stored):
            return x.read()
        return numbers_at(self._address(x), x.rows * x.n)

    def _stored(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Stored]:
        """Zeros of these shapes, contiguous in memory."""
        memory, at, stored = Memory(sum(rows * n for rows, n in shapes.values())), 0, {}
        for name, (rows, n) in shapes.items():
            stored[name] = Stored(self, memory, at, rows, n)
            at += rows * n
        return stored

    def _stored_like(self, matrices: Weights) -> dict[str, Stored]:
        """Zeros of the same shapes, contiguous in memory if `matrices` are."""
        shapes = {name: (x.rows, x.n) for name, x in matrices.items()}
        if _adjacent(matrices):
            return self._stored(shapes)
        return {name: self._stored({name: shape})[name] for name, shape in shapes.items()}


class _Gradients:
    """The gradients of a model's weights, where `backward` leaves them."""

    def __init__(self, ops: Storage, weights: Weights) -> None:
        self.weights, self.matrices = dict(weights), {}
        for name, w in weights.items():
            self.matrices[name] = Stored(ops, w.gradient.memory, w.gradient.at, w.rows, w.n)
        flags = [w.gradient.given for w in weights.values()]
        self._given, self._none = flags[0], array("q", bytes(8 * len(flags)))
        together = all(given is flags[0] for given in flags) and len(flags[0]) == len(flags)
        self._all = array("q", [1] * len(flags)) if together else None

    def complete(self) -> None:
        """Give 0 to the weights that no gradient came back to; what comes back next begins anew."""
        if self._given == self._all:  # as nearly always
            self._given[:] = self._none
            return
        for name, w in self.weights.items():
            given, which = w.gradient.given, w.gradient.which
            if not given[which]:
                ctypes.memset(self.matrices[name].address, 0, 8 * w.size)
            given[which] = 0


def _flat(rows: Rows) -> "array[float]":
    """The numbers of rows, concatenated."""
    return array("d", chain.from_iterable(rows))


def _adjacent(matrices: Weights) -> bool:
    """Whether the matrices are contiguous in memory, in this order."""
    memory, at = None, 0
    for x in matrices.values():
        if not isinstance(x, Stored) or (
            memory is not None and (x.memory is not memory or x.at != at)
        ):
            return False
        memory, at = x.memory, x.at + x.size
    return memory is not None
