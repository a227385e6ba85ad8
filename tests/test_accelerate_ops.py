"""Each operation of the NumPy engine against its derived form, for generated shapes."""

from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.accelerate import NumpyEngine
from microgpt.core.engine.base import Engine, Matrix, Rows
from microgpt.core.engine.scalar import ScalarEngine

Build = Callable[..., Matrix]


sizes = st.integers(1, 5)


seeds = st.integers(0, 2**32)


few = settings(max_examples=40, deadline=None)


class Derived(ScalarEngine):
    """The scalar engine with the contract's own quotient: derived forms and nothing else."""

    div = Engine.div


def numbers(rng: Random, n_rows: int, n_columns: int) -> Rows:
    return [[rng.uniform(-2, 2) for _ in range(n_columns)] for _ in range(n_rows)]


def outcome(ops: Engine, build: Build, inputs: Sequence[Rows]) -> tuple[list[float], list[float]]:
    """The values of `build(ops, *inputs)`, and the gradients of a weighted sum of them."""
    weights = {str(i): ops.parameter(rows) for i, rows in enumerate(inputs)}
    y = build(ops, *weights.values())
    share = ops.constant(numbers(Random(1), *ops.shape(y)))
    ops.backward(ops.row_sum(ops.transpose(ops.row_sum(ops.mul(y, share)))))
    gradients = ops.gradients(weights)
    return [v for row in ops.values(y) for v in row], [
        g for flat in gradients.values() for g in flat
    ]


def assert_same(build: Build, *inputs: Rows, dtype: str = "float64", rel: float = 1e-9) -> None:
    expected = outcome(Derived(), build, inputs)
    got = outcome(NumpyEngine(dtype=dtype), build, inputs)
    for e, g in zip(expected, got):
        # A gradient that is a difference of equal numbers has no relative error worth the name.
        assert g == pytest.approx(e, rel=rel, abs=rel * max([1e-3, *map(abs, e)]))


BINARY: dict[str, Build] = {
    "add": lambda ops, a, b: ops.add(a, b),
    "mul": lambda ops, a, b: ops.mul(a, b),
    "div": lambda ops, a, b: ops.div(a, ops.exp(b)),
}


UNARY: dict[str, Build] = {
    "add a float": lambda ops, x: ops.add(x, 0.7),
    "mul with a float": lambda ops, x: ops.mul(x, -1.3),
    "row_sum": lambda ops, x: ops.row_sum(x),
    "row_max": lambda ops, x: ops.mul(x, ops.row_max(x)),
    "relu": lambda ops, x: ops.relu(x),
    "exp": lambda ops, x: ops.exp(x),
    "log": lambda ops, x: ops.log(ops.mul(x, x)),
    "tanh": lambda ops, x: ops.tanh(x),
    "pow": lambda ops, x: ops.pow(ops.exp(x), -0.5),
    "transpose": lambda ops, x: ops.transpose(x),
    "stack": lambda ops, x: ops.stack([x, ops.exp(x), x]),
    "concat": lambda ops, x: ops.concat([x, ops.exp(x), x]),
    "mean": lambda ops, x: ops.mean(ops.row_sum(x)),
    "softmax": lambda ops, x: ops.softmax(x),
    "rmsnorm": lambda ops, x: ops.rmsnorm(x, 1e-5),
    "used twice": lambda ops, x: ops.linear(ops.linear(x, x), ops.transpose(x)),
}


@pytest.mark.parametrize("name", BINARY)
@few
@given(t=sizes, n=sizes, tall=st.booleans(), wide=st.booleans(), seed=seeds)
def test_binary(name: str, t: int, n: int, tall: bool, wide: bool, seed: int) -> None:
    rng = Random(seed)
    b = numbers(rng, t if tall else 1, n if wide or not tall else 1)
    assert_same(BINARY[name], numbers(rng, t, n), b)


@pytest.mark.parametrize("name", UNARY)
@few
@given(t=sizes, n=sizes, seed=seeds)
def test_unary(name: str, t: int, n: int, seed: int) -> None:
    assert_same(UNARY[name], numbers(Random(seed), t, n))


@few
@given(t=sizes, n=sizes, m=sizes, seed=seeds)
def test_linear(t: int, n: int, m: int, seed: int) -> None:
    rng = Random(seed)
    assert_same(lambda ops, x, w: ops.linear(x, w), numbers(rng, t, n), numbers(rng, m, n))


@few
@given(t=sizes, n=sizes, m=sizes, seed=seeds)
def test_rows_and_pick(t: int, n: int, m: int, seed: int) -> None:
    rng = Random(seed)
    ids, places = rng.choices(range(n), k=t), rng.choices(range(m), k=t)
    build: Build = lambda ops, x: ops.pick(ops.rows(x, ids), places)  # noqa: E731
    assert_same(build, numbers(rng, n, m))


def test_rows_and_targets_of_a_great_vocabulary() -> None:
    ids = [1029, 3, 3]
    assert_same(lambda ops, x: ops.rows(x, ids), numbers(Random(0), 1030, 2))
    assert_same(lambda ops, x: ops.cross_entropy(x, ids), numbers(Random(0), 3, 1030))


@few
@given(t=sizes, n=sizes, seed=seeds, data=st.data())
def test_columns(t: int, n: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    assert_same(lambda ops, x: ops.columns(x, start, stop), numbers(Random(seed), t, n))


@few
@given(
    t=sizes,
    n=sizes,
    seed=seeds,
    scale=st.sampled_from([1, 30, 100]),
    offset=st.sampled_from([0, 500]),
)
def test_cross_entropy(t: int, n: int, seed: int, scale: int, offset: int) -> None:
    rng = Random(seed)
    targets = rng.choices(range(n), k=t)
    logits = [[scale * x + offset for x in row] for row in numbers(rng, t, n)]
    assert_same(lambda ops, x: ops.cross_entropy(x, targets), logits)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    n_kv=st.integers(1, 2),
    share=st.integers(1, 2),
    head_dim=st.integers(1, 3),
    biased=st.booleans(),
    scale=st.sampled_from([1, 30, 300]),
    cached=st.integers(0, 3),
    seed=seeds,
)
def test_attention(
    lengths: list[int],
    n_kv: int,
    share: int,
    head_dim: int,
    biased: bool,
    scale: int,
    cached: int,
    seed: int,
) -> None:
    """Several documents, fewer key-value heads, a bias, large scores, keys from a cache."""
    rng = Random(seed)
    total, n_head = sum(lengths), n_kv * share
    stops = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    spans = [(stop - length, stop) for stop, length in zip(stops, lengths)]
    bias = numbers(rng, n_head, 6) if biased else None
    queries = numbers(rng, max(1, total - cached), n_head * head_dim)
    assert_same(
        lambda ops, q, k, v: ops.attention(q, k, v, n_head=n_head, spans=spans, bias=bias),
        [[scale * x for x in row] for row in queries],
        numbers(rng, total, n_kv * head_dim),
        numbers(rng, total, n_kv * head_dim),
    )


def test_attention_beyond_small() -> None:
    """Sizes at which no constant is repeated to full shape."""
    rng = Random(3)
    spans = [(0, 30), (30, 53)]
    rows = [numbers(rng, 53, 4) for _ in range(3)]
    assert_same(lambda ops, q, k, v: ops.attention(q, k, v, n_head=4, spans=spans), *rows)
    assert_same(lambda ops, x: ops.rmsnorm(x, 1e-5), numbers(rng, 60, 40))


@given(t=sizes, n=st.integers(2, 5), seed=seeds)
@few
def test_float32_is_close(t: int, n: int, seed: int) -> None:
    targets = Random(seed).choices(range(n), k=t)
    build: Build = lambda ops, x: ops.cross_entropy(ops.rmsnorm(x, 1e-5), targets)  # noqa: E731
    assert_same(build, numbers(Random(seed), t, n), dtype="float32", rel=1e-4)
