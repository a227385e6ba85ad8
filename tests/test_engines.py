"""Each operation on each engine, against its derived form on the scalar engine and finite differences."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microgpt.core.engine.base import Engine, Matrix, Rows
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.vector.engine import VectorEngine

DERIVED = ("div", "mean", "softmax", "rmsnorm", "cross_entropy", "attention")


def derived(engine: type[Engine]) -> type[Engine]:
    """The engine with nothing fused: primitives alone."""
    forms = {name: getattr(Engine, name) for name in DERIVED}
    return type(f"Derived{engine.__name__}", (engine,), forms)


ENGINES: list[Callable[[], Engine]] = [
    ScalarEngine,
    VectorEngine,
    derived(VectorEngine),
]
REFERENCE = derived(ScalarEngine)()

engines = pytest.mark.parametrize("factory", ENGINES, ids=lambda factory: factory.__name__)

Case = tuple[list[Rows], Callable[..., Matrix]]  # inputs; (ops, *handles) -> output


class Draw:
    """Shapes and numbers of one example."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)

    def size(self, most: int = 6) -> int:
        return self.rng.randint(1, most)

    def ids(self, n: int, below: int) -> list[int]:
        return [self.rng.randrange(below) for _ in range(n)]

    def rows(self, n_rows: int, n: int, low: float = -2.0, zeros: float = 0.0) -> Rows:
        def number() -> float:
            return 0.0 if self.rng.random() < zeros else self.rng.uniform(low, 2.0)

        return [[number() for _ in range(n)] for _ in range(n_rows)]


def elementwise(name: str, *args: float, low: float = -2.0) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        rows = draw.rows(draw.size(), draw.size(), low)
        return [rows], lambda ops, x: getattr(ops, name)(x, *args)

    return case


def pairwise(name: str, low: float = -2.0) -> Callable[[Draw], Case]:
    """b has the shape of a, or is one row or one column of it."""

    def case(draw: Draw) -> Case:
        t, n = draw.size(), draw.size()
        shape = draw.rng.choice([(t, n), (1, n), (t, 1), (1, 1)])
        return [draw.rows(t, n), draw.rows(*shape, low)], lambda ops, a, b: getattr(ops, name)(a, b)

    return case


def linear(draw: Draw) -> Case:
    n = draw.rng.choice([1, 2, 3, 16, 130, 260])
    return [draw.rows(draw.size(), n), draw.rows(draw.size(), n)], lambda ops, x, w: ops.linear(
        x, w
    )


def sparse(draw: Draw) -> Case:
    """Two layers round a ReLU: most of what comes out of it, and of its gradient, is 0."""
    t, n, m = draw.size(), draw.size(), draw.rng.choice([1, 3, 8, 140])
    inputs = [draw.rows(t, n), draw.rows(m, n, low=-9.0), draw.rows(n, m)]
    return inputs, lambda ops, x, w, v: ops.linear(ops.relu(ops.linear(x, w)), v)


def zeros(draw: Draw) -> Case:
    """Zeros that no ReLU made: gradients go through them."""
    n = draw.size()
    inputs = [draw.rows(draw.size(), n, zeros=0.8), draw.rows(draw.size(), n)]
    return inputs, lambda ops, x, w: ops.linear(x, w)


def shared(draw: Draw) -> Case:
    """One matrix in many places: its gradients add up."""
    n = draw.size()
    return [draw.rows(n, n)], lambda ops, x: ops.add(ops.mul(x, x), ops.linear(x, ops.transpose(x)))


def rows(draw: Draw) -> Case:
    n = draw.size()
    ids = draw.ids(draw.size(), n)
    return [draw.rows(n, draw.size())], lambda ops, x: ops.rows(x, ids)


def pick(draw: Draw) -> Case:
    t, n = draw.size(), draw.size()
    ids = draw.ids(t, n)
    return [draw.rows(t, n)], lambda ops, x: ops.pick(x, ids)


def cross_entropy(draw: Draw) -> Case:
    t, n = draw.size(), draw.size()
    ids = draw.ids(t, n)
    return [draw.rows(t, n)], lambda ops, x: ops.cross_entropy(x, ids)


def columns(draw: Draw) -> Case:
    n = draw.size()
    start = draw.rng.randrange(n)
    stop = draw.rng.randint(start + 1, n)
    return [draw.rows(draw.size(), n)], lambda ops, x: ops.columns(x, start, stop)


def stack(draw: Draw) -> Case:
    n = draw.size()
    return [draw.rows(draw.size(), n) for _ in range(draw.size(3))], lambda ops, *xs: ops.stack(xs)


def concat(draw: Draw) -> Case:
    t = draw.size()
    return [draw.rows(t, draw.size()) for _ in range(draw.size(3))], lambda ops, *xs: ops.concat(xs)


def attention(draw: Draw) -> Case:
    """Any number of documents, shared keys, a cache that reaches into any of them, a bias or none."""
    spans, stop = [], 0
    for _ in range(draw.size(3)):
        spans.append((stop, stop := stop + draw.size(4)))
    n_kv_head, share, size = draw.size(2), draw.size(2), draw.size(3)
    n_head = n_kv_head * share
    cached = draw.rng.choice([0, draw.rng.randrange(stop)])
    bias = draw.rng.choice([None, draw.rows(n_head, 4)])
    inputs = [
        draw.rows(stop - cached, n_head * size),
        draw.rows(stop, n_kv_head * size),
        draw.rows(stop, n_kv_head * size),
    ]
    return inputs, lambda ops, q, k, v: ops.attention(
        q, k, v, n_head=n_head, spans=spans, bias=bias
    )


CASES: dict[str, Callable[[Draw], Case]] = {
    "rows": rows,
    "stack": stack,
    "columns": columns,
    "concat": concat,
    "transpose": elementwise("transpose"),
    "pick": pick,
    "add": pairwise("add"),
    "add number": elementwise("add", 1.5),
    "mul": pairwise("mul"),
    "mul number": elementwise("mul", -3),
    "div": pairwise("div", low=0.5),
    "linear": linear,
    "linear of zeros": zeros,
    "linear round relu": sparse,
    "used twice": shared,
    "row_sum": elementwise("row_sum"),
    "row_max": lambda draw: (
        [draw.rows(draw.size(), draw.size())],
        lambda ops, x: ops.add(x, ops.mul(ops.row_max(x), 0)),
    ),
    "relu": elementwise("relu"),
    "exp": elementwise("exp"),
    "log": elementwise("log", low=0.1),
    "tanh": elementwise("tanh"),
    **{
        f"pow {power}": elementwise("pow", power, low=0.2)
        for power in (-2, -1, -0.5, 0.5, 1, 1.5, 2, 3, 0.3, -1.7)
    },
    "mean": lambda draw: ([draw.rows(draw.size(), 1)], lambda ops, x: ops.mean(x)),
    "softmax": elementwise("softmax"),
    "rmsnorm": elementwise("rmsnorm", 1e-5),
    "cross_entropy": cross_entropy,
    "attention": attention,
}


def measured(ops: Engine, inputs: list[Rows], run: Callable[..., Matrix]) -> list[float]:
    """What comes out, then the gradients of a weighted sum of it, all in one list."""
    handles = {str(i): ops.parameter(rows) for i, rows in enumerate(inputs)}
    out = run(ops, *handles.values())
    ops.backward(weighted(ops, out))
    flat = [number for row in ops.values(out) for number in row]
    return flat + [g for grads in ops.gradients(handles).values() for g in grads]


def weighted(ops: Engine, out: Matrix) -> Matrix:
    """A number `[1][1]` that every entry of the output has another share in."""
    n_rows, n = ops.shape(out)
    shares = Draw(n_rows * n).rows(n_rows, n)
    return ops.row_sum(ops.transpose(ops.row_sum(ops.mul(out, ops.constant(shares)))))


@engines
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_values_and_gradients_are_those_of_the_derived_form(
    factory: Callable[[], Engine], name: str, seed: int
) -> None:
    inputs, run = CASES[name](Draw(seed))
    expected = measured(REFERENCE, inputs, run)
    assert measured(factory(), inputs, run) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_values_without_a_tape_have_the_same_bits(name: str, seed: int) -> None:
    inputs, run = CASES[name](Draw(seed))
    ops = VectorEngine()
    bare = run(ops, *map(ops.constant, inputs))
    assert not bare.traced
    assert ops.values(bare) == ops.values(run(ops, *map(ops.parameter, inputs)))


@engines
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
@example(seed=1)
def test_gradients_are_those_of_finite_differences(
    factory: Callable[[], Engine], name: str, seed: int
) -> None:
    draw, ops, h = Draw(seed), factory(), 1e-5
    inputs, run = CASES[name](draw)

    def loss() -> float:
        out = weighted(ops, run(ops, *map(ops.constant, inputs)))
        return float(ops.values(out)[0][0])

    handles = {str(i): ops.parameter(rows) for i, rows in enumerate(inputs)}
    ops.backward(weighted(ops, run(ops, *handles.values())))
    for rows, grads in zip(inputs, ops.gradients(handles).values()):
        at = draw.rng.randrange(len(grads))
        row, column = divmod(at, len(rows[0]))
        number = rows[row][column]
        if name == "linear of zeros" or abs(number) > 2 * h:
            rows[row][column] = number + h
            above = loss()
            rows[row][column] = number - h
            assert grads[at] == pytest.approx((above - loss()) / (2 * h), rel=1e-5, abs=1e-6)
            rows[row][column] = number


@engines
def test_numbers_go_in_and_come_out(factory: Callable[[], Engine]) -> None:
    ops, rows = factory(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    weights = {"a": ops.parameter(rows), "b": ops.constant([[7.0]])}
    assert ops.values(weights["a"]) == rows
    assert ops.shape(weights["a"]) == (2, 3)
    assert ops.flat(weights) == {"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "b": [7.0]}
    ops.assign(weights, {"a": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0], "b": [0.0]})
    assert ops.values(weights["a"]) == [[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]


@engines
def test_gradients_are_forgotten_once_read_and_0_where_none_came(
    factory: Callable[[], Engine],
) -> None:
    ops = factory()
    weights = {"used": ops.parameter([[2.0]]), "unused": ops.parameter([[3.0, 4.0]])}
    ops.backward(ops.mul(weights["used"], 5))
    assert ops.gradients(weights) == {"used": [5.0], "unused": [0.0, 0.0]}
    assert ops.gradients(weights) == {"used": [0.0], "unused": [0.0, 0.0]}


@engines
def test_a_probability_that_underflows_costs_infinity(factory: Callable[[], Engine]) -> None:
    ops = factory()
    assert ops.values(ops.cross_entropy(ops.constant([[0.0, 1000.0]]), [0])) == [[float("inf")]]
