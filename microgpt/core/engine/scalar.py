"""The reference engine: one number, one node.

Its graph has the operations of the original 200-line program in the original's order, so a loss is
the original's to the last bit: the children of a node stand in its order, sums go from left to right
from 0, a quotient is a product with a power of -1, and the backward pass visits the nodes in the
order of the recursion that it replaces.
"""

import math
from collections.abc import Mapping, Sequence

from microgpt.core.engine.base import Engine, Matrix, Rows


class Value:
    """A number, the numbers that it was computed from, and its derivative by each of them."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(
        self, data: float, children: tuple["Value", ...] = (), local_grads: tuple[float, ...] = ()
    ) -> None:
        self.data, self.grad = data, 0.0
        self._children, self._local_grads = children, local_grads

    def __add__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return Value(self.data + other.data, (self, other), (1.0, 1.0))
        return Value(self.data + other, (self,), (1.0,))

    def __mul__(self, other: "Value | float") -> "Value":
        if isinstance(other, Value):
            return Value(self.data * other.data, (self, other), (other.data, self.data))
        return Value(self.data * other, (self,), (other,))

    def __pow__(self, power: float) -> "Value":
        return Value(self.data**power, (self,), (power * self.data ** (power - 1),))

    __radd__ = __add__  # sum() starts from the integer 0

    def relu(self) -> "Value":
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),))

    def exp(self) -> "Value":
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def log(self) -> "Value":
        if self.data == 0:  # a probability that underflowed: an infinite loss, not an exception
            return Value(-math.inf, (self,), (math.inf,))
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def tanh(self) -> "Value":
        result = math.tanh(self.data)
        return Value(result, (self,), (1 - result * result,))

    def backward(self) -> None:
        """The chain rule from this node to every node below it; a loop, since a recursion overflows."""
        order: list[Value] = []
        visited: set[Value] = set()
        stack: list[Value | None] = [self]
        while stack:
            node = stack.pop()
            if node is None:  # all below the next is done
                order.append(stack.pop())  # type: ignore[arg-type]
            elif node._children and node not in visited:  # a leaf has nothing to pass on
                visited.add(node)
                stack += (node, None, *node._children[::-1])
        self.grad = 1.0
        for node in reversed(order):
            for child, local_grad in zip(node._children, node._local_grads):
                child.grad += local_grad * node.grad


class ScalarEngine(Engine):
    """A matrix is a list of rows of Values. Exact, slow, and short enough to check by eye."""

    arithmetic = "libm"

    def parameter(self, rows: Rows) -> Matrix:
        return [[Value(number) for number in row] for row in rows]

    def values(self, x: Matrix) -> Rows:
        return [[value.data for value in row] for row in x]

    def shape(self, x: Matrix) -> tuple[int, int]:
        return len(x), len(x[0])

    def backward(self, loss: Matrix) -> None:
        loss[0][0].backward()

    def gradients(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        flat = {name: [value.grad for row in w for value in row] for name, w in weights.items()}
        for value in (value for w in weights.values() for row in w for value in row):
            value.grad = 0.0
        return flat

    def flat(self, weights: Mapping[str, Matrix]) -> dict[str, list[float]]:
        return {name: [value.data for row in w for value in row] for name, w in weights.items()}

    def assign(self, weights: Mapping[str, Matrix], flat: Mapping[str, list[float]]) -> None:
        for name, w in weights.items():
            values = (value for row in w for value in row)
            for value, number in zip(values, flat[name]):
                value.data = number

    def rows(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        return [x[i] for i in ids]

    def stack(self, xs: Sequence[Matrix]) -> Matrix:
        return [row for x in xs for row in x]

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        return [row[start:stop] for row in x]

    def concat(self, xs: Sequence[Matrix]) -> Matrix:
        return [[value for row in rows for value in row] for rows in zip(*xs)]

    def transpose(self, x: Matrix) -> Matrix:
        return [list(column) for column in zip(*x)]

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        return [[row[i]] for row, i in zip(x, ids)]

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        pairs = zip(a, _like(a, b))
        return [[x + y for x, y in zip(p, q)] for p, q in pairs]

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        pairs = zip(a, _like(a, b))
        return [[x * y for x, y in zip(p, q)] for p, q in pairs]

    def div(self, a: Matrix, b: Matrix) -> Matrix:
        # A power node for each quotient: one that a row shares would add gradients in another order.
        return self.mul(a, [[y**-1 for y in row] for row in _like(a, b)])

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        return [[sum([wi * xi for wi, xi in zip(wo, row)]) for wo in w] for row in x]

    def row_sum(self, x: Matrix) -> Matrix:
        return [[sum(row)] for row in x]

    def row_max(self, x: Matrix) -> Matrix:
        return [[Value(max(value.data for value in row))] for row in x]

    def relu(self, x: Matrix) -> Matrix:
        return [[value.relu() for value in row] for row in x]

    def exp(self, x: Matrix) -> Matrix:
        return [[value.exp() for value in row] for row in x]

    def log(self, x: Matrix) -> Matrix:
        return [[value.log() for value in row] for row in x]

    def tanh(self, x: Matrix) -> Matrix:
        return [[value.tanh() for value in row] for row in x]

    def pow(self, x: Matrix, power: float) -> Matrix:
        return [[value**power for value in row] for row in x]


def _like(a: Matrix, b: Matrix | float) -> Matrix:
    """`b` repeated to the shape of `a`: a float, a row or a column."""
    if isinstance(b, int | float):
        return [[b] * len(row) for row in a]
    if len(b) == 1 < len(a):
        b = b * len(a)
    return [list(row) * len(a[0]) if len(row) == 1 else row for row in b]
