"""Numbers that are none, infinities and zeros: on every engine as IEEE 754 has it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from microgpt.core.engine.base import Engine, Matrix
from tests.engines import engines

NAN, INF = math.nan, math.inf


@engines
@pytest.mark.parametrize(
    "name",
    [
        *(
            "add",
            "mul",
            "div",
            "linear",
            "row_sum",
            "row_max",
            "relu",
            "exp",
            "log",
            "tanh",
            "sign",
        ),
        *("pow 2", "pow 0.5", "pow -1", "pow 0.3", "transpose", "detached"),
        *("mean", "sigmoid", "softmax", "logsumexp", "rmsnorm", "cross_entropy"),
    ],
)
def test_not_a_number_stays_so(factory: Callable[[], Engine], name: str) -> None:
    """Wherever it stands in a row, in every number of the result that it has a part in."""
    ops = factory()
    run: Callable[[Matrix], Matrix] = {
        "add": lambda x: x + ops.constant([[0.0]]),
        "mul": lambda x: x * 0,
        "div": lambda x: ops.constant([[1.0] * 3] * 3) / x,
        "linear": lambda x: ops.linear(x, ops.constant([[1.0, 1.0, 1.0]])),
        "cross_entropy": lambda x: ops.cross_entropy(x, [0, 1, 2]),
        "mean": lambda x: ops.mean(ops.row_sum(x)),
        "rmsnorm": lambda x: ops.rmsnorm(x, 1e-5),
    }.get(
        name,
        lambda x: getattr(ops, name.split()[0])(x, *map(float, name.split()[1:])),
    )
    whole_row = ("linear", "row_sum", "row_max", "softmax", "logsumexp", "rmsnorm", "cross_entropy")
    for at in range(3):
        rows = [[0.25, 0.5, 0.75] for _ in range(3)]
        rows[1][at] = NAN
        for make in (ops.constant, ops.parameter):
            out = ops.values(run(make(rows)))
            wrong = {
                (i, j) for i, row in enumerate(out) for j, x in enumerate(row) if math.isnan(x)
            }
            if name == "transpose":
                assert wrong == {(at, 1)}
            elif name == "mean":
                assert wrong == {(0, 0)}
            elif name in whole_row:
                assert wrong == {(1, j) for j in range(len(out[1]))}
            else:
                assert wrong == {(1, at)}


@engines
def test_not_a_number_in_attention_reaches_what_sees_it(factory: Callable[[], Engine]) -> None:
    ops, plain = factory(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]
    for role in range(3):
        inputs = [[list(row) for row in plain] for _ in range(3)]
        inputs[role][1][0] = NAN  # of head 0, in the first of two documents
        q, k, v = map(ops.parameter, inputs)
        out = ops.values(ops.attention(q, k, v, n_head=2, spans=[(0, 3), (3, 4)]))
        wrong = {(i, j) for i, row in enumerate(out) for j, x in enumerate(row) if math.isnan(x)}
        sees = {(1, 0)} if role == 0 else {(1, 0), (2, 0)}
        # 0 times a value that is none is none: with weights of 0 for what is to come, NumPy has more.
        assert sees <= wrong <= sees | {(0, 0)}


EDGES: list[tuple[str, Callable[[Engine, Matrix], Matrix], float, float]] = [
    ("1/0", lambda ops, x: ops.constant([[1.0]]) / x, 0.0, INF),
    ("-1/0", lambda ops, x: ops.constant([[-1.0]]) / x, 0.0, -INF),
    ("1/-0", lambda ops, x: ops.constant([[1.0]]) / x, -0.0, -INF),
    ("0/0", lambda ops, x: x / x, 0.0, NAN),
    ("1/0, a number", lambda ops, x: x / 0, 1.0, INF),
    ("-1/0, a number", lambda ops, x: x / 0.0, -1.0, -INF),
    ("0/0, a number", lambda ops, x: x / 0, 0.0, NAN),
    ("1/inf", lambda ops, x: ops.constant([[1.0]]) / x, INF, 0.0),
    ("root of -1", lambda ops, x: ops.pow(x, 0.5), -1.0, NAN),
    ("-1.5 of -1", lambda ops, x: ops.pow(x, -1.5), -1.0, NAN),
    ("0.3 of -1", lambda ops, x: ops.pow(x, 0.3), -1.0, NAN),
    ("cube of -2", lambda ops, x: ops.pow(x, 3), -2.0, -8.0),
    ("-1 of 0", lambda ops, x: ops.pow(x, -1), 0.0, INF),
    ("-0.5 of 0", lambda ops, x: ops.pow(x, -0.5), 0.0, INF),
    ("root of 0", lambda ops, x: ops.pow(x, 0.5), 0.0, 0.0),
    ("0 of nan", lambda ops, x: x * 0, NAN, NAN),
    ("log of 0", lambda ops, x: ops.log(x), 0.0, -INF),
    ("pow 0 of nan", lambda ops, x: ops.pow(x, 0), NAN, 1.0),
    *(
        (f"pow {power} of {x}", lambda ops, x, power=power: ops.pow(x, power), x, expected)
        for x, power, expected in (
            (-0.0, -1, -INF),
            (-0.0, -3.0, -INF),
            (-1e-200, -3.0, -INF),
            (-0.0, -2, INF),
            (-0.0, -0.5, INF),
            (-0.0, -1.5, INF),
            (-0.0, -0.3, INF),
            (0.0, -3.0, INF),
            (1e-200, -3.0, INF),
        )
    ),
    ("log of -1", lambda ops, x: ops.log(x), -1.0, NAN),
    ("log of inf", lambda ops, x: ops.log(x), INF, INF),
    ("exp of -inf", lambda ops, x: ops.exp(x), -INF, 0.0),
    ("exp of inf", lambda ops, x: ops.exp(x), INF, INF),
    ("tanh of inf", lambda ops, x: ops.tanh(x), -INF, -1.0),
    ("relu of -inf", lambda ops, x: ops.relu(x), -INF, 0.0),
    ("sign of -inf", lambda ops, x: ops.sign(x), -INF, -1.0),
    ("sign of 0", lambda ops, x: ops.sign(x), 0.0, 0.0),
    ("sigmoid of -inf", lambda ops, x: ops.sigmoid(x), -INF, 0.0),
    ("sigmoid of 800", lambda ops, x: ops.sigmoid(x), 800.0, 1.0),
    ("logsumexp of 800", lambda ops, x: ops.logsumexp(x), 800.0, 800.0),
    ("softmax of 800", lambda ops, x: ops.softmax(x), 800.0, 1.0),
]


@engines
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge[0])
def test_at_the_edges_every_engine_does_as_ieee_754(
    factory: Callable[[], Engine], edge: tuple[Any, ...]
) -> None:
    """No exception either, whether a gradient is asked for or not."""
    _, run, x, expected = edge
    ops = factory()
    for make in (ops.constant, ops.parameter):
        ((found,),) = ops.values(run(ops, make([[x]])))
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@engines
def test_a_probability_that_underflows_costs_infinity(factory: Callable[[], Engine]) -> None:
    ops = factory()
    assert ops.values(ops.cross_entropy(ops.constant([[0.0, 1000.0]]), [0])) == [[INF]]


@engines
@pytest.mark.parametrize("number", [NAN, INF])
def test_a_zero_hides_no_weight_that_is_none(factory: Callable[[], Engine], number: float) -> None:
    """0 times what is not finite is not a number: products with 0 must not be left out then."""
    ops = factory()
    for make in (ops.constant, ops.parameter):
        x, w = make([[-1.0, -2.0, 3.0], [-1.0, -1.0, -1.0]]), make([[number, 1.0, 1.0], [1.0] * 3])
        (first, second) = ops.values(ops.linear(ops.relu(x), w))
        assert [math.isnan(y) for y in first + second] == [True, False, True, False]
        ops.load({"w": w}, {"w": [1.0] * 6})
        assert ops.values(ops.linear(ops.relu(x), w)) == [[3.0, 3.0], [0.0, 0.0]]
        ops.assign(w, ops.constant([[1.0] * 3, [number] * 3]))
        assert math.isnan(ops.values(ops.linear(ops.relu(x), w))[1][1])
