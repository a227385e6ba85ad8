"""Update rules, against the formulas of the papers."""

import math
from collections.abc import Callable, Iterator
from random import Random

import pytest

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.shapes import Rows
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adam_original import AdamOriginal
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer, Slots
from microgpt.core.optim.lion import Lion
from microgpt.core.optim.muon import COEFFICIENTS, Muon, orthogonalised
from microgpt.core.optim.sgd import SGD
from microgpt.core.weight import Role, Weight
from tests.engines import engines


def adam_by_the_book(p: float, grads: list[float], decay: float = 0.0) -> Iterator[float]:
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p -= 0.1 * (decay * p)
        p -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.99**t)) + 1e-8)
        yield p


def sgd_by_the_book(p: float, grads: list[float]) -> Iterator[float]:
    m = 0.0
    for g in grads:
        m = 0.9 * m + g
        p -= 0.1 * m
        yield p


def lion_by_the_book(p: float, grads: list[float]) -> Iterator[float]:
    m = 0.0
    for g in grads:
        p -= 0.1 * (math.copysign(1, 0.9 * m + 0.1 * g) + 0.2 * p)
        m = 0.99 * m + 0.01 * g
        yield p


BETAS = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}
MUON = {"momentum": 0.9, "ns_steps": 5, "weight_decay": 0.2, "adam_lr": 0.1}
BOOKS: dict[str, tuple[Callable[[], Optimizer], Callable[..., Iterator[float]]]] = {
    "adam": (lambda: Adam(**BETAS), adam_by_the_book),
    "adam_original": (lambda: AdamOriginal(**BETAS), adam_by_the_book),
    "adamw": (
        lambda: AdamW(**BETAS, weight_decay=0.2),
        lambda p, grads: adam_by_the_book(p, grads, 0.2),
    ),
    "sgd": (lambda: SGD(lr=0.1, momentum=0.9), sgd_by_the_book),
    "lion": (lambda: Lion(lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.2), lion_by_the_book),
    "muon, of an embedding": (lambda: Muon(**BETAS | {"lr": 0.5}, **MUON), adam_by_the_book),
}


def updated(
    ops: Engine,
    optimizer: Optimizer,
    rows: Rows,
    grads: list[Rows],
    role: Role,
    lr_scale: float = 1.0,
    clip: float = 1.0,
) -> list[Rows]:
    """The weight after each gradient, at the optimizer's own rate."""
    weights, found = ops.parameters({"w": rows}), []
    shapes = {"w": Weight(len(rows), len(rows[0]), role)}
    optimizer.prepare(ops, weights, shapes, {"w": lr_scale})
    for grad in grads:
        products = ops.row_sum(weights["w"] * ops.constant(grad))
        ops.backward(ops.row_sum(ops.transpose(products)))  # whose gradient is `grad`
        optimizer.step(ops, ops.gradients(weights), optimizer.lr, clip)
        found.append(ops.values(weights["w"]))
    return found


@engines
@pytest.mark.parametrize("name", BOOKS)
def test_update_rules_by_the_book(name: str, factory: Callable[[], Engine]) -> None:
    make, book = BOOKS[name]
    grads = [0.3, -1.0, 0.7, 2.0, -0.1]
    for share, clip in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.25)):
        expected = list(book(0.5, [clip * g for g in grads]))
        optimizer = make()
        optimizer.lr *= 2 if share == 0.5 else 1  # twice the rate at half the share is the same
        if isinstance(optimizer, Muon):
            optimizer.adam_lr *= 2 if share == 0.5 else 1
        ours = updated(
            factory(), optimizer, [[0.5]], [[[g]] for g in grads], "embedding", share, clip
        )
        assert [rows[0][0] for rows in ours] == pytest.approx(expected, rel=1e-12)


def product(a: Rows, b: Rows) -> Rows:
    return [[math.fsum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def plus(a: Rows, x: float, b: Rows, y: float) -> Rows:
    return [[x * p + y * q for p, q in zip(*rows)] for rows in zip(a, b)]


def turned(a: Rows) -> Rows:
    return [list(column) for column in zip(*a)]


def newton_schulz(x: Rows, steps: int) -> Rows:
    """a X + b (X X^T) X + c (X X^T)^2 X, of X over its Frobenius norm."""
    a, b, c = COEFFICIENTS
    norm = math.sqrt(math.fsum(number**2 for row in x for number in row)) + 1e-7
    x = [[number / norm for number in row] for row in x]
    for _ in range(steps):
        square = product(x, turned(x))
        x = plus(x, a, product(plus(square, b, product(square, square), c), x), 1)
    return x


def numbers(seed: int, n_out: int, n_in: int) -> Rows:
    rng = Random(seed)
    return [[rng.uniform(-1, 1) for _ in range(n_in)] for _ in range(n_out)]


@engines
@pytest.mark.parametrize("shape", [(3, 3), (6, 2), (2, 6)], ids=str)
@pytest.mark.parametrize("role", ["matrix", "residual_out"])
def test_muon_by_the_book(
    role: Role, shape: tuple[int, int], factory: Callable[[], Engine]
) -> None:
    p, grads = numbers(0, *shape), [numbers(seed, *shape) for seed in (1, 2, 3)]
    found = updated(factory(), Muon(**BETAS, **MUON), p, grads, role)
    m = [[0.0] * shape[1] for _ in range(shape[0])]
    for g, ours in zip(grads, found):
        m = plus(m, 0.9, g, 1)
        u = newton_schulz(plus(g, 1, m, 0.9), 5)
        p = plus(p, 1 - 0.1 * 0.2, u, -0.1 * math.sqrt(max(1, shape[0] / shape[1])))
        assert ours == [pytest.approx(row, rel=1e-9, abs=1e-12) for row in p]


@engines
def test_newton_schulz_brings_singular_values_near_one(factory: Callable[[], Engine]) -> None:
    numpy = pytest.importorskip("numpy")
    ops = factory()
    for seed, shape in enumerate([(5, 5), (8, 3), (3, 8)]):
        found = ops.values(orthogonalised(ops, ops.constant(numbers(seed, *shape)), 5))
        assert all(0.5 < s < 1.3 for s in numpy.linalg.svd(numpy.array(found))[1])


class Before(Optimizer):
    """Keeps the momentum before the last, and gives the weight what a slot held."""

    slots = ("m", "before", "weight")

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        late = slots["weight"]
        slots["before"] = slots["m"]
        slots["m"] = slots["m"] + g
        slots["weight"] = p + 1
        return late


class Normalised(Optimizer):
    """p -= lr g / |g|, with the norm of each weight's own gradient."""

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return p - lr * g / ops.row_sum(ops.transpose(ops.row_sum(g**2))) ** 0.5


def taken(ops: Engine, optimizer: Optimizer, steps: int) -> dict[str, list[float]]:
    """Two weights after steps whose gradients are the weights of the beginning."""
    weights = ops.parameters({"a": [[3.0, 4.0]], "b": [[2.0]]})
    shapes = {"a": Weight(1, 2, "matrix"), "b": Weight(1, 1, "matrix")}
    optimizer.prepare(ops, weights, shapes, dict.fromkeys(shapes, 1.0))
    for _ in range(steps):
        gradients = {"a": ops.constant([[3.0, 4.0]]), "b": ops.constant([[2.0]])}
        optimizer.step(ops, gradients, 1.0, 1.0)
    return ops.flat(weights)


@engines
def test_a_slot_may_take_what_another_slot_held(factory: Callable[[], Engine]) -> None:
    ops, optimizer = factory(), Before(lr=1.0)
    assert taken(ops, optimizer, 1) == {"a": [0.0, 0.0], "b": [0.0]}
    assert taken(ops, optimizer, 2) == {"a": [4.0, 5.0], "b": [3.0]}
    assert ops.flat(optimizer.state["m"]) == {"a": [6.0, 8.0], "b": [4.0]}
    assert ops.flat(optimizer.state["before"]) == {"a": [3.0, 4.0], "b": [2.0]}


@engines
def test_a_rule_of_the_users_is_given_each_weight_alone(factory: Callable[[], Engine]) -> None:
    found = taken(factory(), Normalised(lr=1.0), 1)
    assert found["a"] == pytest.approx([3.0 - 0.6, 4.0 - 0.8], rel=1e-6)
    assert found["b"] == pytest.approx([1.0], rel=1e-6)
