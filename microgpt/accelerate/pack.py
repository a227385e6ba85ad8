"""Matrices as views of one buffer, so that an elementwise update of all is one call."""

from collections.abc import Mapping, Sequence

import numpy as np

from microgpt.accelerate.node import Array, Node, node
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import Rows


class Pack(dict[str, Node]):
    """Matrices by name that are views of `row` `[1][N]`."""

    def __init__(self, matrices: Mapping[str, Node], row: Node) -> None:
        super().__init__(matrices)
        self.row = row


class WeightPack(Pack):
    """The weights of a model, with the matrices of their gradients."""

    def __init__(self, matrices: Mapping[str, Node], row: Node, gradients: Pack) -> None:
        super().__init__(matrices, row)
        self.gradients = gradients


def parts(buffer: Array, shapes: Sequence[tuple[int, int]]) -> list[Array]:
    """Splits a buffer into views with these shapes."""
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(buffer, ends), shapes)]


def buffer_of(rows: Sequence[Rows], dtype: str) -> Array:
    """The values of many matrices, concatenated."""
    return np.concatenate([np.array(numbers, dtype).ravel() for numbers in rows])


def packed(
    ops: Engine, names: Sequence[str], shapes: Sequence[tuple[int, int]], buffer: Array
) -> Pack:
    """Constants that are views of a buffer."""
    matrices = (node(ops, part) for part in parts(buffer, shapes))
    return Pack(dict(zip(names, matrices)), node(ops, buffer.reshape(1, -1)))
