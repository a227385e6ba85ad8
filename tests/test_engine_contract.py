"""What every engine promises of handles, gradients and shapes."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.engine.shapes import Rows
from microgpt.vector.engine import VectorEngine
from tests.engines import ENGINES, EXACT, Draw, derived, engines

NAN, INF = math.nan, math.inf


# Numbers in and out


def test_an_engine_without_a_primitive_is_none() -> None:
    """Python refuses it by name, before a run begins."""
    for name in Engine.__abstractmethods__:
        members = {n: getattr(ScalarEngine, n) for n in Engine.__abstractmethods__ - {name}}
        with pytest.raises(TypeError, match=rf"abstract method '?{name}"):
            type("Unfinished", (Engine,), members)()


@engines
def test_operators_are_those_of_the_engine_that_made_the_matrix(
    factory: Callable[[], Engine],
) -> None:
    """Of a class derived from an engine too, for what went in and for what was computed."""
    ops = factory()
    plain = type(ops)
    ops.__class__ = type("Other", (plain,), {"mul": lambda self, a, b: plain.mul(self, a, 7)})
    w = ops.parameter([[1.0]])
    weights, zeros = {"w": w}, ops.zeros_like({"w": w})
    ops.backward(w + 1)
    made = (w, ops.constant([[1.0]]), ops.detached(w), ops.gradients(weights)["w"], zeros["w"] + 1)
    for x in (*made, ops.relu(w), ops.exp(w * 0) / ops.exp(w * 0), ops.transpose(w)):
        assert ops.values(x * 2) == [[7.0]]
        assert ops.values(-x) == [[7.0]]
    assert factory().values(factory().constant([[1.0]]) * 2) == [[2.0]]


@engines
def test_numbers_go_in_and_come_out(factory: Callable[[], Engine]) -> None:
    ops, rows = factory(), [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    for weights in (
        {"a": ops.parameter(rows), "b": ops.constant([[7.0]])},
        ops.parameters({"a": rows, "b": [[7.0]]}),
    ):
        assert ops.values(weights["a"]) == rows
        assert ops.shape(weights["a"]) == (2, 3)
        assert ops.flat(weights) == {"a": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "b": [7.0]}
        assert all(type(number) is float for flat in ops.flat(weights).values() for number in flat)
        other = {"a": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0], "b": [0.0]}
        ops.load(weights, other)
        assert ops.values(weights["a"]) == [[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]]
        assert ops.flat(weights) == other
        rows[0][0] = 9.0  # what went in is the caller's
        assert ops.flat(weights) == other
        rows[0][0] = 1.0


@engines
def test_assign_changes_the_target_alone(factory: Callable[[], Engine]) -> None:
    ops = factory()
    for target in (ops.parameter([[1.0, 2.0]]), ops.constant([[1.0, 2.0]])):
        source = ops.constant([[3.0, 4.0]])
        ops.assign(target, source)
        assert ops.values(target) == [[3.0, 4.0]]
        ops.assign(target, target * 2)
        assert ops.values(target) == [[6.0, 8.0]]
        assert ops.values(source) == [[3.0, 4.0]]
        ops.assign(target, source)
        zeros = [ops.constant([[0.0, 0.0]]) for _ in range(2)]
        numbers = ops.detached(target), ops.constant([[1.0, 1.0]]), *zeros
        ops.assign(target, ops.adam(*numbers, beta1=0.9, beta2=0.9, rate=1.0, eps=1e-8)[0])
        assert ops.values(target) != [[3.0, 4.0]]
        assert ops.values(source) == [[3.0, 4.0]]


@engines
def test_a_weight_is_one_after_assign_and_load(factory: Callable[[], Engine]) -> None:
    ops = factory()
    weights = ops.parameters({"w": [[1.0, 2.0]], "u": [[1.0, 1.0]]})
    ops.assign(weights["w"], ops.constant([[3.0, 4.0]]))
    ops.backward(ops.row_sum(weights["w"] * weights["w"]))
    assert ops.flat(ops.gradients(weights))["w"] == [6.0, 8.0]
    ops.load(weights, {"w": [5.0, 6.0], "u": [2.0, 3.0]})
    ops.backward(ops.row_sum(weights["w"] * weights["u"]))
    assert ops.flat(ops.gradients(weights)) == {"w": [2.0, 3.0], "u": [5.0, 6.0]}


@engines
def test_zeros_like_and_joined(factory: Callable[[], Engine]) -> None:
    ops = factory()
    weights = ops.parameters({"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[5.0]]})
    zeros = ops.zeros_like(weights)
    assert ops.flat(zeros) == {"a": [0.0] * 4, "b": [0.0]}
    assert {name: ops.shape(x) for name, x in zeros.items()} == {"a": (2, 2), "b": (1, 1)}
    joined, slots = ops.joined(weights), ops.joined(zeros)
    assert joined.keys() == slots.keys()
    for name, x in joined.items():
        assert ops.shape(x) == ops.shape(slots[name])
        ops.assign(x, ops.detached(x) * 2 + 1)
        ops.assign(slots[name], ops.detached(x))
    assert ops.flat(weights) == {"a": [3.0, 5.0, 7.0, 9.0], "b": [11.0]}
    assert ops.flat(zeros) == ops.flat(weights)
    one = {"b": weights["b"]}  # some of them, as of a slot that not all have
    for x in ops.joined(ops.zeros_like(one)).values():
        assert ops.shape(x) == (1, 1)


@engines
def test_detached_numbers_leave_no_gradient(factory: Callable[[], Engine]) -> None:
    ops = factory()
    weights = ops.parameters({"w": [[2.0, 3.0]]})
    free = ops.detached(weights["w"])
    assert ops.values(free) == [[2.0, 3.0]]
    ops.backward(ops.row_sum(weights["w"] * free))
    assert ops.flat(ops.gradients(weights)) == {"w": [2.0, 3.0]}


@engines
def test_global_norm(factory: Callable[[], Engine]) -> None:
    ops = factory()
    matrices = {"a": ops.constant([[3.0, 0.0]]), "b": ops.constant([[0.0], [-4.0]])}
    assert ops.global_norm(matrices) == 5.0
    numbers = {name: Draw(i).rows(5, 7) for i, name in enumerate("abc")}
    found = factory().global_norm({n: ops.constant(rows) for n, rows in numbers.items()})
    flat = [x for rows in numbers.values() for row in rows for x in row]
    assert found == pytest.approx(math.sqrt(math.fsum(x * x for x in flat)), rel=1e-14)
    assert math.isnan(ops.global_norm({"a": ops.constant([[1.0, NAN]])}))


def adam(ops: Engine, seed: int) -> list[Rows]:
    """What Adam's update makes of numbers, of slots from 0 on."""
    draw = Draw(seed)
    t, n = draw.size(), draw.size()
    numbers = [draw.rows(t, n), draw.rows(t, n), draw.rows(t, n), draw.rows(t, n, low=0.0)]
    settings = {"beta1": 0.85, "beta2": 0.99, "rate": 0.01, "eps": 1e-8}
    return [ops.values(x) for x in ops.adam(*map(ops.constant, numbers), **settings)]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("seed", range(10))
def test_the_fused_adam_is_the_derived_one(name: str, seed: int) -> None:
    expected, found = adam(derived(VectorEngine)(), seed), adam(ENGINES[name](), seed)
    if name in EXACT:
        assert found == expected  # to the last bit
    for ours, theirs in zip(found, expected):
        assert ours == [pytest.approx(row, rel=1e-14, abs=1e-15) for row in theirs]


# Gradients


@engines
def test_gradients_are_forgotten_once_read_and_0_where_none_came(
    factory: Callable[[], Engine],
) -> None:
    ops = factory()
    for weights in (
        {"used": ops.parameter([[2.0]]), "unused": ops.parameter([[3.0, 4.0]])},
        ops.parameters({"used": [[2.0]], "unused": [[3.0, 4.0]]}),
    ):
        ops.backward(weights["used"] * 5)
        assert ops.flat(ops.gradients(weights)) == {"used": [5.0], "unused": [0.0, 0.0]}
        assert ops.flat(ops.gradients(weights)) == {"used": [0.0], "unused": [0.0, 0.0]}


@engines
def test_backward_passes_add_up(factory: Callable[[], Engine]) -> None:
    """Of losses with graphs of their own, of losses that share a part, and of one loss twice."""
    ops = factory()
    weights = ops.parameters({"w": [[2.0, 3.0]], "unused": [[1.0]]})
    w = weights["w"]
    for _ in range(2):
        ops.backward(ops.row_sum(w * 5))
    assert ops.flat(ops.gradients(weights)) == {"w": [10.0, 10.0], "unused": [0.0]}
    shared = w * w
    ops.backward(ops.row_sum(shared))
    ops.backward(ops.row_sum(shared * 3))
    assert ops.flat(ops.gradients(weights))["w"] == [4.0 + 12.0, 6.0 + 18.0]
    loss = ops.row_sum(ops.exp(w * 0) * w * w)
    ops.backward(loss)
    ops.backward(loss)
    assert ops.flat(ops.gradients(weights))["w"] == [8.0, 12.0]


# Shapes that do not fit

TWO = [[1.0, 2.0], [3.0, 4.0]]
MISFITS: dict[str, Callable[[Engine], Any]] = {
    **{
        f"{name} {shape}": lambda ops, name=name, b=b: getattr(ops, name)(
            ops.constant([[1.0] * 4] * 3), ops.constant(b)
        )
        for name in ("add", "mul", "div")
        for shape, b in {
            "shorter rows": [[1.0, 2.0]] * 3,
            "longer rows": [[1.0] * 5] * 3,
            "a short row": [[1.0, 2.0]],
            "fewer rows": [[1.0] * 4] * 2,
            "more rows": [[1.0] * 4] * 4,
            "a short column": [[1.0]] * 2,
        }.items()
    },
    **{
        f"{name}: a is repeated": lambda ops, name=name, a=a: getattr(ops, name)(
            ops.constant(a), ops.constant([[1.0] * 4] * 3)
        )
        for name in ("add", "mul", "div")
        for a in ([[1.0] * 4], [[1.0]] * 3, [[1.0]])
    },
    "linear": lambda ops: ops.linear(ops.constant([[1.0, 2.0]]), ops.constant([[1.0, 2.0, 3.0]])),
    "linear of zeros": lambda ops: ops.linear(ops.constant([[0.0, 0.0]]), ops.constant([[1.0]])),
    "linear of long rows": lambda ops: ops.linear(
        ops.constant([[1.0] * 200]), ops.constant([[1.0] * 201])
    ),
    "concat_columns": lambda ops: ops.concat_columns(
        [ops.constant([[1.0]]), ops.constant([[1.0], [2.0]])]
    ),
    "concat_rows": lambda ops: ops.concat_rows([ops.constant(TWO), ops.constant([[1.0]])]),
    **{
        f"columns {start}..{stop}": lambda ops, start=start, stop=stop: ops.columns(
            ops.constant(TWO), start, stop
        )
        for start, stop in ((1, 5), (-1, 1), (1, 1), (2, 1))
    },
    **{
        f"{make} {name}": lambda ops, make=make, rows=rows: getattr(ops, make)(rows)
        for make in ("constant", "parameter")
        for name, rows in {
            "ragged": [[1.0, 2.0], [3.0]],
            "ragged, with the right number": [[1.0, 2.0], [3.0], [4.0, 5.0, 6.0]],
            "without rows": [],
            "without columns": [[]],
        }.items()
    },
    "parameters, ragged": lambda ops: ops.parameters({"a": [[1.0]], "b": [[1.0, 2.0], [3.0]]}),
    **{
        f"assign {name} to a {kind}": lambda ops, kind=kind, rows=rows: ops.assign(
            getattr(ops, kind)(TWO), ops.constant(rows)
        )
        for kind in ("parameter", "constant")
        for name, rows in {
            "one row": [[1.0, 2.0]],
            "a column": [[1.0], [2.0]],
            "a number": [[1.0]],
            "another shape": [[1.0, 2.0, 3.0, 4.0]],
            "more rows": [[1.0, 2.0]] * 3,
        }.items()
    },
    **{
        f"load {n} numbers into a {kind}": lambda ops, kind=kind, n=n: ops.load(
            {"x": getattr(ops, kind)(TWO)}, {"x": [1.0] * n}
        )
        for kind in ("parameter", "constant")
        for n in (0, 1, 2, 3, 5, 8)
    },
    **{
        f"{name} of {ids}": lambda ops, name=name, ids=ids: ops.values(
            getattr(ops, name)(ops.constant(TWO), ids)
        )
        for name in ("gather", "pick", "cross_entropy")
        for ids in ([-1, 0], [0, 2])
    },
    **{
        f"{name} of {ids}": lambda ops, name=name, ids=ids: ops.values(
            getattr(ops, name)(ops.constant(TWO), ids)
        )
        for name in ("pick", "cross_entropy")
        for ids in ([0], [0, 1, 0])
    },
    "backward of a constant": lambda ops: ops.backward(ops.constant([[1.0]])),
    "backward of what is detached": lambda ops: ops.backward(
        ops.detached(ops.parameter([[1.0]])) * 2
    ),
    "backward of a row": lambda ops: ops.backward(ops.parameter(TWO)),
}


@engines
@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused(factory: Callable[[], Engine], name: str) -> None:
    with pytest.raises(ValueError, match=r"\[|out of range|aligned"):
        MISFITS[name](factory())


@engines
@pytest.mark.parametrize("lengths", [[2], [3, 1]], ids=str)
def test_a_bias_that_is_too_short_is_refused(
    factory: Callable[[], Engine], lengths: list[int]
) -> None:
    """At the last row of a document, and while a document is read token by token."""
    ops, x = factory(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    bias = [[0.5] * length for length in lengths]
    k = ops.constant(x)
    for q in (k, ops.constant(x[2:])):
        with pytest.raises(ValueError, match="2 rows of at least 3 numbers"):
            ops.attention(q, k, k, n_head=2, spans=[(0, 3)], bias=bias)


@engines
def test_a_bias_may_be_longer_than_a_document(factory: Callable[[], Engine]) -> None:
    ops, x = factory(), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    out = [
        ops.values(
            ops.attention(*[ops.constant(x)] * 3, n_head=2, spans=[(0, 2), (2, 3)], bias=bias)
        )
        for bias in ([[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2, 9.0], [0.3, 0.4]])
    ]
    assert out[0] == out[1]
