"""Nodes of the graph."""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from math import isfinite
from typing import TypeAlias

from microgpt.core.engine import base
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import (
    Rows,
)
from microgpt.vector import kernels as of

Back: TypeAlias = Callable[[Rows], Iterable[Rows]]

_numbers = count()


class Node(base.Matrix):
    """A matrix, its inputs in the graph, and its backward function.

    The rows of a node are not modified, except by `adam` when nothing else uses them, so nodes,
    gradients and caches may share rows. `back` receives the gradient, not the node, which would be
    a reference cycle. A node is `gated` if its zeros pass no gradient. Constants keep no inputs.
    """

    __slots__ = (
        *("back", "finite", "gated", "grad", "inputs", "number", "ops", "rows", "traced", "turned"),
    )

    def __init__(
        self,
        ops: Engine,
        rows: Rows,
        inputs: Sequence["Node"] = (),
        back: Back | None = None,
        leaf: bool = False,
    ) -> None:
        self.ops, self.rows, self.gated = ops, rows, False
        self.grad: Rows | None = None
        self.turned: Rows | None = None  # the transpose, computed on demand
        self.finite: bool | None = None  # whether all numbers are finite, computed on demand
        for node in inputs:  # faster than `any`; a sampled token makes 20 nodes
            if node.traced:
                leaf = True
        self.traced: bool = leaf
        if leaf:
            self.number, self.inputs, self.back = next(_numbers), inputs, back

    def columns(self) -> Rows:
        """The transpose, cached for several products."""
        self.turned = self.turned or of.transposed(self.rows)
        return self.turned

    def is_finite(self) -> bool:
        """Whether all numbers are finite, so that 0 times any of them is 0."""
        if self.finite is None:
            self.finite = isfinite(sum(map(sum, self.rows)))
        return self.finite

    def renew(self, rows: Rows) -> None:
        """Replaces the values."""
        self.rows, self.turned, self.finite = rows, None, None
