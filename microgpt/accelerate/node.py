"""Nodes of the graph, and the backward pass."""

from collections.abc import Callable
from itertools import count
from typing import Any, TypeAlias

from numpy.typing import NDArray

from microgpt.core.engine.base import Engine, Matrix

Array: TypeAlias = NDArray[Any]
Back: TypeAlias = Callable[[Array], None]

_order = count()


class Node(Matrix):
    """A matrix; if it needs a gradient, also its parents and its backward function.

    The function `node` makes it, which takes a fifth less time than an `__init__`.
    """

    __slots__ = ("back", "data", "grad", "needs", "ops", "order", "parents")

    ops: Engine
    data: Array
    grad: Array | None
    order: int  # of creation
    needs: bool  # whether it needs a gradient: whether a parent does
    parents: tuple["Node", ...]
    back: Back | None

    def give(self, grad: Array) -> None:
        """Adds to the gradient. `grad` may be shared with another node, and is not modified."""
        if self.needs:
            self.grad = grad if self.grad is None else self.grad + grad

    def give_product(self, a: Array, b: Array) -> None:
        """Adds a @ b to the gradient."""
        if self.needs:
            self.grad = a.dot(b) if self.grad is None else self.grad + a.dot(b)


class Weight(Node):
    """A parameter. Its gradient accumulates in the buffer `kept` until `gradients` is called."""

    __slots__ = ("kept", "touched")

    def __init__(self, ops: Engine, data: Array, kept: Array) -> None:
        self.ops, self.data, self.grad, self.order = ops, data, None, next(_order)
        self.needs, self.parents, self.back = True, (), None
        self.kept = kept
        self.touched = False  # whether `kept` holds a gradient since the last call of `gradients`

    def give(self, grad: Array) -> None:
        if self.touched:
            self.kept += grad
        else:
            self.kept[:] = grad
            self.touched = True

    def give_product(self, a: Array, b: Array) -> None:
        if self.touched:
            self.kept += a.dot(b)
        else:
            a.dot(b, self.kept)
            self.touched = True


def node(
    ops: Engine, data: Array, parents: tuple[Node, ...] = (), back: Back | None = None
) -> Node:
    """Makes a node, without parents if none of them needs a gradient."""
    made = Node()
    made.ops = ops
    made.data = data
    made.grad = None
    made.order = next(_order)
    for parent in parents:
        if parent.needs:
            made.needs = True
            made.parents = parents
            made.back = back
            return made
    made.needs = False
    made.parents = ()
    made.back = None
    return made


def backward(loss: Node, grad: Array) -> None:
    """Backpropagates `grad` from the loss; visits each node once, in reverse order of creation."""
    loss.give(grad)
    reached, nodes = {loss.order: loss}, [loss]
    for node in nodes:  # which grows
        for parent in node.parents:
            if parent.back is not None and parent.order not in reached:
                reached[parent.order] = parent
                nodes.append(parent)
    for order in sorted(reached, reverse=True):
        node = reached[order]
        if node.back is not None and node.grad is not None:
            node.back(node.grad)
            node.grad = None
