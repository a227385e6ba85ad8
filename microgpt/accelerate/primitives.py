"""The operations that every engine has, on arrays."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from microgpt.accelerate.arrays import (
    MANY,
    full,
    indices,
    number,
    one_hot,
)
from microgpt.accelerate.memory import keep_memory
from microgpt.accelerate.node import Array, Node, Weight, backward, node
from microgpt.accelerate.pack import Pack, WeightPack, buffer_of, packed, parts
from microgpt.core.check import choice
from microgpt.core.engine.base import Engine
from microgpt.core.engine.shapes import (
    Rows,
    check_count,
    check_ids,
    check_loss,
    check_matrix,
    check_numbers,
    check_operand,
    check_range,
    check_rows,
    check_same,
    check_widths,
)

Matrix: TypeAlias = Any  # a Node; the type checker knows it as a base.Matrix
Weights: TypeAlias = Mapping[str, Matrix]


class Primitives(Engine):
    """Matrices are arrays of `dtype`, float64 or float32."""

    def __init__(self, *, dtype: str) -> None:
        self.dtype = choice("dtype", dtype, ("float64", "float32"))
        self.arithmetic = f"{dtype}/blas"
        # inf and nan show in the loss, so warnings are off. Set once for the thread, since an
        # `errstate` around every operation costs 1 us each.
        np.seterr(all="ignore")
        keep_memory()

    def depends_on(self) -> dict[str, str]:
        """The NumPy and BLAS that the last bits of a result depend on."""
        config = cast(dict[str, Any], np.show_config(mode="dicts"))
        blas = config["Build Dependencies"]["blas"]
        return {
            "dtype": self.dtype,
            "numpy": np.__version__,
            "blas": f"{blas['name']} {blas['version']}",
            "simd": " ".join(config["SIMD Extensions"].get("found", [])),
        }

    # Numbers in and out

    def parameter(self, rows: Rows) -> Matrix:
        return self.parameters({"": rows})[""]

    def parameters(self, rows: Mapping[str, Rows]) -> dict[str, Matrix]:
        shapes = [check_matrix(numbers) for numbers in rows.values()]
        buffer = buffer_of(list(rows.values()), self.dtype)
        grads = np.zeros_like(buffer)
        pairs = zip(parts(buffer, shapes), parts(grads, shapes))
        weights = {name: Weight(self, data, kept) for name, (data, kept) in zip(rows, pairs)}
        gradients = packed(self, list(rows), shapes, grads)
        return WeightPack(weights, node(self, buffer.reshape(1, -1)), gradients)

    def gradients(self, weights: Weights) -> dict[str, Matrix]:
        for w in weights.values():
            if not w.touched:
                w.kept.fill(0)
            w.touched = False
        if isinstance(weights, WeightPack):
            return weights.gradients
        return {name: node(self, w.kept) for name, w in weights.items()}

    def zeros_like(self, matrices: Weights) -> dict[str, Matrix]:
        shapes = [x.data.shape for x in matrices.values()]
        size = sum(x.data.size for x in matrices.values())
        return packed(self, list(matrices), shapes, np.zeros(size, self.dtype))

    def joined(self, matrices: Weights) -> Weights:
        return {"": matrices.row} if isinstance(matrices, Pack) else matrices

    def constant(self, rows: Rows) -> Matrix:
        check_matrix(rows)
        return node(self, np.array(rows, self.dtype))

    def detached(self, x: Matrix) -> Matrix:
        return node(self, x.data)

    def values(self, x: Matrix) -> Rows:
        return cast(Rows, x.data.tolist())

    def shape(self, x: Matrix) -> tuple[int, int]:
        return cast(tuple[int, int], x.data.shape)

    def backward(self, loss: Matrix) -> None:
        check_loss(loss.data.shape, loss.needs)
        backward(loss, full(1, 1, 1, self.dtype))

    def assign(self, target: Matrix, source: Matrix) -> None:
        if target.data is not source.data:
            check_same(target.data.shape, source.data.shape)
            target.data[:] = source.data

    def flat(self, matrices: Weights) -> dict[str, list[float]]:
        return {name: x.data.ravel().tolist() for name, x in matrices.items()}

    def load(self, matrices: Weights, flat: Mapping[str, list[float]]) -> None:
        for name, x in matrices.items():
            check_numbers(x.data.shape, len(flat[name]))
            x.data[:] = np.array(flat[name]).reshape(x.data.shape)

    def global_norm(self, matrices: Weights) -> float:
        flats = [x.data.ravel() for x in self.joined(matrices).values()]
        return math.sqrt(sum(float(flat.dot(flat)) for flat in flats))

    # Primitives: rows and columns

    def gather(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        try:  # NumPy notices an id that is out of range at a tenth of the price of `check_ids`
            places = indices(ids)
            rows = x.data.take(places, 0)
        except (IndexError, OverflowError):
            check_ids(ids, x.data.shape[0])
            raise

        def back(grad: Array) -> None:
            n = x.data.shape[0]
            if n <= MANY:  # a product with one-hot rows is faster than adding row by row
                x.give_product(one_hot(places, n, self.dtype).T, grad)
            else:
                total = np.zeros_like(x.data)
                np.add.at(total, places, grad)
                x.give(total)

        return node(self, rows, (x,), back)

    def concat_rows(self, xs: Sequence[Matrix]) -> Matrix:
        check_widths(x.data.shape for x in xs)

        def back(grad: Array) -> None:
            for x, part in zip(xs, np.split(grad, np.cumsum([len(x.data) for x in xs])[:-1])):
                x.give(part)

        return node(self, np.concatenate([x.data for x in xs]), tuple(xs), back)

    def columns(self, x: Matrix, start: int, stop: int) -> Matrix:
        check_range(x.data.shape, start, stop)

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[:, start:stop] = grad
            x.give(whole)

        return node(self, x.data[:, start:stop], (x,), back)

    def concat_columns(self, xs: Sequence[Matrix]) -> Matrix:
        check_rows(x.data.shape for x in xs)

        def back(grad: Array) -> None:
            edges = np.cumsum([x.data.shape[1] for x in xs])[:-1]
            for x, part in zip(xs, np.split(grad, edges, axis=1)):
                x.give(part)

        return node(self, np.concatenate([x.data for x in xs], axis=1), tuple(xs), back)

    def transpose(self, x: Matrix) -> Matrix:
        return node(self, x.data.T, (x,), lambda grad: x.give(grad.T))

    def pick(self, x: Matrix, ids: Sequence[int]) -> Matrix:
        check_count(x.data.shape, ids)
        check_ids(ids, x.data.shape[1])
        place = (np.arange(len(ids)), indices(ids))

        def back(grad: Array) -> None:
            whole = np.zeros_like(x.data)
            whole[place] = grad[:, 0]
            x.give(whole)

        return node(self, x.data[place][:, None], (x,), back)

    # Primitives: arithmetic

    def add(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data + b, (a,), a.give)
        if not (alike := a.data.shape == b.data.shape):
            check_operand(a.data.shape, b.data.shape)

        def back(grad: Array) -> None:
            a.give(grad)
            b.give(grad if alike else _summed(grad, b.data))

        return node(self, a.data + b.data, (a, b), back)

    def mul(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data * b, (a,), lambda grad: a.give(grad * b))
        if not (alike := a.data.shape == b.data.shape):
            check_operand(a.data.shape, b.data.shape)

        def back(grad: Array) -> None:
            a.give(grad * b.data)
            to_b = grad * a.data
            b.give(to_b if alike else _summed(to_b, b.data))

        return node(self, a.data * b.data, (a, b), back)

    def div(self, a: Matrix, b: Matrix | float) -> Matrix:
        if not isinstance(b, Node):
            return node(self, a.data / b, (a,), lambda grad: a.give(grad / b))
        if not (alike := a.data.shape == b.data.shape):
            check_operand(a.data.shape, b.data.shape)
        result = a.data / b.data

        def back(grad: Array) -> None:
            over = grad / b.data
            a.give(over)
            to_b = -over * result
            b.give(to_b if alike else _summed(to_b, b.data))

        return node(self, result, (a, b), back)

    def linear(self, x: Matrix, w: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give_product(grad, w.data)
            w.give_product(grad.T, x.data)

        return node(self, x.data.dot(w.data.T), (x, w), back)

    def row_sum(self, x: Matrix) -> Matrix:
        def back(grad: Array) -> None:
            x.give(np.broadcast_to(grad, x.data.shape))

        return node(self, np.add.reduce(x.data, 1, keepdims=True), (x,), back)

    def row_max(self, x: Matrix) -> Matrix:
        return node(self, np.maximum.reduce(x.data, 1, keepdims=True))

    def sign(self, x: Matrix) -> Matrix:
        return node(self, np.sign(x.data))

    def relu(self, x: Matrix) -> Matrix:
        result = np.maximum(x.data, number(0, self.dtype))
        # A product with booleans would convert them, which takes as long as the product and the sign.
        return node(self, result, (x,), lambda grad: x.give(grad * np.sign(result)))

    def exp(self, x: Matrix) -> Matrix:
        result = np.exp(x.data)
        return node(self, result, (x,), lambda grad: x.give(grad * result))

    def log(self, x: Matrix) -> Matrix:
        return node(self, np.log(x.data), (x,), lambda grad: x.give(grad / x.data))

    def tanh(self, x: Matrix) -> Matrix:
        result = np.tanh(x.data)
        return node(self, result, (x,), lambda grad: x.give(grad * (1 - result * result)))

    def pow(self, x: Matrix, power: float) -> Matrix:
        def back(grad: Array) -> None:
            x.give(grad * (power * x.data ** (power - 1)))

        return node(self, x.data**power, (x,), back)


def _summed(grad: Array, x: Array) -> Array:
    """The gradient of an operand that was broadcast to the shape of `grad`: summed over the repeats."""
    if x.shape[0] < grad.shape[0]:
        grad = np.add.reduce(grad, 0, keepdims=True)
    if x.shape[1] < grad.shape[1]:
        grad = np.add.reduce(grad, 1, keepdims=True)
    return grad
