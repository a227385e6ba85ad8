"""Each operation on each engine, against its derived form on the scalar engine and finite differences."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microgpt.core.engine.base import Engine, Matrix
from microgpt.vector.engine import VectorEngine
from tests.engines import REFERENCE, Case, Draw, engines, measured, weighted


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
    return [draw.rows(n, n)], lambda ops, x: x * x + ops.linear(x, ops.transpose(x))


def gather(draw: Draw) -> Case:
    n = draw.size()
    ids = draw.ids(draw.size(), n)
    return [draw.rows(n, draw.size())], lambda ops, x: ops.gather(x, ids)


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


def concat_rows(draw: Draw) -> Case:
    n = draw.size()
    inputs = [draw.rows(draw.size(), n) for _ in range(draw.size(3))]
    return inputs, lambda ops, *xs: ops.concat_rows([*xs, xs[0]])


def concat_columns(draw: Draw) -> Case:
    t = draw.size()
    inputs = [draw.rows(t, draw.size()) for _ in range(draw.size(3))]
    return inputs, lambda ops, *xs: ops.concat_columns([*xs, xs[0]])


def attention(draw: Draw) -> Case:
    """Any number of documents, shared keys, a cache that reaches into any of them, a bias, a scale."""
    spans, stop = [], 0
    for _ in range(draw.size(3)):
        spans.append((stop, stop := stop + draw.size(4)))
    n_kv_head, share, size = draw.size(2), draw.size(2), draw.size(3)
    n_head = n_kv_head * share
    cached = draw.rng.choice([0, draw.rng.randrange(stop)])
    bias, scale = draw.rng.choice([None, draw.rows(n_head, 4)]), draw.rng.choice([None, 1, -0.3])
    inputs = [
        draw.rows(stop - cached, n_head * size),
        draw.rows(stop, n_kv_head * size),
        draw.rows(stop, n_kv_head * size),
    ]
    return inputs, lambda ops, q, k, v: ops.attention(
        q, k, v, n_head=n_head, spans=spans, bias=bias, scale=scale
    )


def operators(draw: Draw) -> Case:
    """Every operator of a handle."""
    t, n = draw.size(), draw.size()

    def run(ops: Engine, a: Matrix, b: Matrix) -> Matrix:
        return (a + b - a * 3) / (b**2 + 1) + (1 - a) * (2 + b) - (-b) ** 3 / 2 + (b * b + 1) ** 0.5

    return [draw.rows(t, n), draw.rows(t, n)], run


CASES: dict[str, Callable[[Draw], Case]] = {
    "gather": gather,
    "concat_rows": concat_rows,
    "columns": columns,
    "concat_columns": concat_columns,
    "transpose": elementwise("transpose"),
    "pick": pick,
    "add": pairwise("add"),
    "add number": elementwise("add", 1.5),
    "mul": pairwise("mul"),
    "mul number": elementwise("mul", -3),
    "div": pairwise("div", low=0.5),
    "div number": elementwise("div", -3),
    "operators": operators,
    "linear": linear,
    "linear of zeros": zeros,
    "linear round relu": sparse,
    "used twice": shared,
    "row_sum": elementwise("row_sum"),
    "row_max": lambda draw: (
        [draw.rows(draw.size(), draw.size())],
        lambda ops, x: x * ops.row_max(x),
    ),
    "sign": lambda draw: (
        [draw.rows(draw.size(), draw.size(), zeros=0.3)],
        lambda ops, x: x * ops.sign(x),
    ),
    "detached": lambda draw: (
        [draw.rows(draw.size(), draw.size())],
        lambda ops, x: x * ops.detached(ops.exp(x)),
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
    "sigmoid": elementwise("sigmoid"),
    "softmax": elementwise("softmax"),
    "logsumexp": elementwise("logsumexp"),
    "rmsnorm": elementwise("rmsnorm", 1e-5),
    "cross_entropy": cross_entropy,
    "attention": attention,
}


@engines
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_values_and_gradients_are_those_of_the_derived_form(
    factory: Callable[[], Engine], name: str, seed: int
) -> None:
    inputs, run = CASES[name](Draw(seed))
    expected = measured(REFERENCE, inputs, run)
    # A gradient that is a difference of equal numbers has no relative error worth the name.
    tiny = 1e-12 * max(1.0, *map(abs, expected))
    assert measured(factory(), inputs, run) == pytest.approx(expected, rel=1e-9, abs=tiny)


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
    found = ops.flat(ops.gradients(handles)).values()
    if name in ("row_max", "sign", "detached"):
        return  # a factor there is a constant by contract
    for rows, grads in zip(inputs, found):
        at = draw.rng.randrange(len(grads))
        row, column = divmod(at, len(rows[0]))
        number = rows[row][column]
        if name == "linear of zeros" or abs(number) > 2 * h:
            rows[row][column] = number + h
            above = loss()
            rows[row][column] = number - h
            assert grads[at] == pytest.approx((above - loss()) / (2 * h), rel=1e-5, abs=1e-6)
            rows[row][column] = number
