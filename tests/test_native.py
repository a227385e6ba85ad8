"""The native engine's operations: the vector engine's bits, and memory that is let go of."""

import math
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.core import exact
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.shapes import Rows
from microgpt.native import NativeEngine
from microgpt.native.library import compiler
from microgpt.native.tape import functions
from microgpt.vector.engine import VectorEngine
from tests.engines import Draw, derived, measured
from tests.test_engines import CASES
from tests.test_exact_bits import EXP, LOG, TANH

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")
NAN, INF = math.nan, math.inf
OPS = NativeEngine() if compiler() else None  # one for all: what an example leaves must not matter


def bits(numbers: Iterable[float]) -> list[bytes]:
    """Doubles as bytes; all that are not a number are alike."""
    return [struct.pack("<d", NAN if x != x else x) for x in numbers]


def same(inputs: list[Rows], run: Callable[..., Matrix]) -> None:
    assert OPS is not None
    assert bits(measured(OPS, inputs, run)) == bits(measured(VectorEngine(), inputs, run))


# The same bits


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_values_and_gradients_have_the_vector_engines_bits(name: str, seed: int) -> None:
    same(*CASES[name](Draw(seed)))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_so_they_have_where_nothing_is_fused(name: str, seed: int) -> None:
    inputs, run = CASES[name](Draw(seed))
    engines = derived(NativeEngine)(), derived(VectorEngine)()
    found, expected = (measured(ops, inputs, run) for ops in engines)
    assert bits(found) == bits(expected)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(t=st.integers(1, 9), n=st.integers(1, 70), m=st.integers(1, 70), zeros=st.floats(0, 1))
def test_products_of_every_shape(t: int, n: int, m: int, zeros: float) -> None:
    """Rows and columns that do not fill a register, and sums with most of their terms left out."""
    draw = Draw(t * n * m)
    same([draw.rows(t, n, zeros=zeros), draw.rows(m, n)], lambda ops, x, w: ops.linear(x, w))


@pytest.mark.parametrize("number", [NAN, INF, -INF, 0.0, -0.0, 1e308, 5e-324])
@pytest.mark.parametrize("name", ["linear", "linear of zeros", "linear round relu", "attention"])
def test_numbers_at_the_edges_go_the_same_way(name: str, number: float) -> None:
    for seed in range(20):
        draw = Draw(seed)
        inputs, run = CASES[name](draw)
        for rows in inputs:
            draw.rng.choice(rows)[0] = number
        same(inputs, run)


@pytest.mark.parametrize(
    ("name", "function", "points"),
    [
        ("exp", exact.exp, EXP),
        ("exp_row", exact.exp, EXP),
        ("log", exact.log, [*LOG, -0.0, -1.0, -INF, NAN]),
        ("tanh", exact.tanh, [*TANH, -0.0, NAN]),
    ],
)
def test_functions_are_exact(
    name: str, function: Callable[[float], float], points: Sequence[float]
) -> None:
    assert bits(functions(name, points)) == bits(map(function, points))


def test_exp_between_and_beyond_its_nodes() -> None:
    near = [k / 128 + side / 256 for k in range(-77000, 77000, 11) for side in (-1, 0, 1)]
    ends = [
        x + i * math.ulp(x) for x in (600.0, -600.0, 709.78, -708.39, -745.13) for i in range(-9, 9)
    ]
    subnormal = [-708.0 - i / 16 for i in range(620)]
    points = [*near, *ends, *subnormal, 1e300, -1e300, NAN]
    assert bits(functions("exp_row", points)) == bits(map(exact.exp, points))


@pytest.mark.parametrize(
    "power", [0, 1, 2, 3, 7, 100, 0.5, 1.5, 0.3, -1, -2, -0.5, -1.7, 1e300, -INF, INF, NAN]
)
def test_powers_are_exact(power: float) -> None:
    points = [0.0, -0.0, 1.0, -1.0, 0.7, -0.7, 1.3, -2.5, 1e-310, 1e200, INF, -INF, NAN]
    assert bits(functions("pow", points, power)) == bits(exact.pow(x, power) for x in points)


# Handles and memory


def test_what_was_computed_before_backward_is_still_there() -> None:
    ops = NativeEngine()
    w = ops.parameter([[2.0, 3.0]])
    squares = w * w
    loss = ops.row_sum(squares)
    ops.backward(loss)
    other = ops.detached(squares) + squares
    assert ops.values(other) == [[8.0, 18.0]]
    assert ops.values(squares) == [[4.0, 9.0]]
    assert ops.values(loss) == [[13.0]]
    ops.backward(ops.row_sum(other))
    assert ops.flat(ops.gradients({"w": w})) == {"w": [4.0 + 4.0, 6.0 + 6.0]}


def test_gradients_go_through_many_recordings_in_order() -> None:
    def found(ops: Engine) -> list[float]:
        w = ops.parameter([[0.3, -0.7]])
        x = y = w * 1.1
        for _ in range(4):
            ops.backward(ops.row_sum(x * y))
            x, y = ops.exp(y) * w + x, x * 0.7 - y
        ops.backward(ops.row_sum(x * y + w))
        return ops.flat(ops.gradients({"": w}))[""]

    assert bits(found(NativeEngine())) == bits(found(VectorEngine()))


def test_numbers_are_those_at_the_time_of_the_operation() -> None:
    """What is pending is computed before a weight changes; what comes later sees the new numbers."""
    ops = NativeEngine()
    x = ops.constant([[1.0, 1.0]])
    for w in (ops.parameter([[1.0, 2.0]]), ops.constant([[1.0, 2.0]])):
        before = ops.linear(x, w)
        ops.assign(w, ops.constant([[3.0, 4.0]]))
        middle = ops.linear(x, w)
        ops.load({"w": w}, {"w": [5.0, 6.0]})
        found = [ops.values(y) for y in (before, middle, ops.linear(x, w))]
        assert found == [[[3.0]], [[7.0]], [[11.0]]]


def test_an_id_that_is_none_is_an_error_and_no_more() -> None:
    ops = NativeEngine()
    x = ops.constant([[1.0, 2.0]])
    for run in (
        lambda: ops.gather(x, [1]),
        lambda: ops.gather(x, [-1]),
        lambda: ops.pick(x, [2]),
        lambda: ops.cross_entropy(x, [2]),
    ):
        with pytest.raises(ValueError, match="out of range"):
            ops.values(run())
        assert ops.values(x + x) == [[2.0, 4.0]]


def test_what_would_read_beyond_a_matrix_is_refused() -> None:
    ops = NativeEngine()
    x = ops.constant([[1.0, 2.0], [3.0, 4.0]])
    row = ops.constant([[1.0, 2.0]])
    for run in (
        lambda: ops.columns(x, 1, 3),
        lambda: ops.columns(x, -1, 1),
        lambda: ops.pick(x, [0]),
        lambda: ops.cross_entropy(x, [0, 1, 0]),
        lambda: ops.concat_rows([x, ops.constant([[1.0]])]),
        lambda: ops.attention(x, x, row, n_head=1, spans=[(0, 2)]),
        lambda: ops.attention(x, x, x, n_head=3, spans=[(0, 2)]),
        lambda: ops.attention(x, x, x, n_head=1, spans=[(0, 3)]),
        lambda: ops.attention(x, x, x, n_head=1, spans=[(0, 1)]),
        lambda: ops.attention(x, row, row, n_head=1, spans=[(0, 1)]),
        lambda: ops.assign(x, row),
        lambda: ops.load({"x": x}, {"x": [1.0]}),
        lambda: ops.constant([[1.0, 2.0], [3.0]]),
        lambda: ops.adam(x, row, x, x, beta1=0.9, beta2=0.9, rate=1.0, eps=1e-8),
    ):
        with pytest.raises(ValueError, match=r"\[|spans"):
            run()


def test_a_matrix_of_another_engine_is_refused() -> None:
    ops, other = NativeEngine(), NativeEngine()
    with pytest.raises(ValueError, match="another engine"):
        ops.add(ops.constant([[1.0]]), other.constant([[1.0]]))


MEMORY = """
import resource
from microgpt.native import NativeEngine
ops = NativeEngine()
w = ops.parameter([[0.01] * 64] * 64)

def training():
    x = ops.constant([[1.0] * 64] * 64)
    loss = ops.row_sum(ops.transpose(ops.row_sum(ops.linear(x, w))))
    ops.backward(loss)
    ops.gradients({"w": w})
    return loss

def inference():
    free = ops.detached(w)
    cache = ops.constant([[1.0] * 64])
    for _ in range(8):
        cache = ops.concat_rows([cache, ops.linear(cache, free)])
        ops.values(ops.row_sum(cache))
    return cache

def no_backward():
    return ops.values(ops.row_sum(ops.linear(w, w)))

def of(run, n):
    for _ in range(n):
        kept = run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for run in (training, inference, no_backward):
    of(run, 300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(of(run, 900) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kilobytes are Linux's unit")
def test_memory_is_flat_with_and_without_backward() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=root, capture_output=True, text=True, check=True
    )
    assert all(int(line) < 2000 for line in done.stdout.split()), done.stdout
