"""The NumPy engine where its code has branches that small shapes and numbers do not reach.

`test_engines.py` holds every operation of it against the derived forms.
"""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.accelerate import NumpyEngine
from microgpt.core.engine.shapes import Rows
from tests.engines import REFERENCE, measured

sizes = st.integers(1, 5)
seeds = st.integers(0, 2**32)
few = settings(max_examples=40, deadline=None, derandomize=True)


def numbers(rng: Random, n_rows: int, n_columns: int, scale: float = 1.0) -> Rows:
    return [[scale * rng.uniform(-2, 2) for _ in range(n_columns)] for _ in range(n_rows)]


def assert_same(run: Any, *inputs: Rows, dtype: str = "float64", rel: float = 1e-9) -> None:
    """Values and gradients are those of the derived forms on the scalar engine."""
    expected = measured(REFERENCE, list(inputs), run)
    got = measured(NumpyEngine(dtype=dtype), list(inputs), run)
    # A gradient that is a difference of equal numbers has no relative error worth the name.
    assert got == pytest.approx(expected, rel=rel, abs=rel * max([1e-3, *map(abs, expected)]))


def test_rows_and_targets_of_a_great_vocabulary() -> None:
    ids = [1029, 3, 3]
    assert_same(lambda ops, x: ops.gather(x, ids), numbers(Random(0), 1030, 2))
    assert_same(lambda ops, x: ops.cross_entropy(x, ids), numbers(Random(0), 3, 1030))


@few
@given(
    t=sizes, n=sizes, seed=seeds, scale=st.sampled_from([30, 100]), offset=st.sampled_from([0, 500])
)
def test_large_logits(t: int, n: int, seed: int, scale: int, offset: int) -> None:
    rng = Random(seed)
    targets = rng.choices(range(n), k=t)
    logits = [[x + offset for x in row] for row in numbers(rng, t, n, scale)]
    for run in (lambda ops, x: ops.cross_entropy(x, targets), lambda ops, x: ops.softmax(x)):
        assert_same(run, logits)


@few
@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    head_dim=st.integers(1, 3),
    biased=st.booleans(),
    scale=st.sampled_from([30, 300]),
    seed=seeds,
)
def test_large_scores(
    lengths: list[int], head_dim: int, biased: bool, scale: int, seed: int
) -> None:
    """The maximum is taken off, of several documents of which all but one are padded."""
    rng = Random(seed)
    stops = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    spans = [(stop - length, stop) for stop, length in zip(stops, lengths)]
    bias = numbers(rng, 2, 6) if biased else None
    inputs = [numbers(rng, stops[-1], 2 * head_dim, s) for s in (scale, 1, 1)]
    assert_same(
        lambda ops, q, k, v: ops.attention(q, k, v, n_head=2, spans=spans, bias=bias), *inputs
    )


def test_beyond_small() -> None:
    """Sizes at which no constant is repeated to full shape."""
    rng = Random(3)
    spans = [(0, 30), (30, 53)]
    rows = [numbers(rng, 53, 4) for _ in range(3)]
    assert_same(lambda ops, q, k, v: ops.attention(q, k, v, n_head=4, spans=spans), *rows)
    assert_same(lambda ops, x: ops.rmsnorm(x, 1e-5), numbers(rng, 60, 40))


def test_attention_of_columns() -> None:
    """Queries, keys and values that NumPy holds column by column, of two documents and two heads."""

    def run(ops: Any, *xs: Any) -> Any:
        q, k, v = map(ops.transpose, xs)
        return ops.attention(q, k, v, n_head=2, spans=[(0, 3), (3, 6)])

    assert_same(run, *[numbers(Random(seed), 4, 6) for seed in range(3)])


@few
@given(t=sizes, n=st.integers(2, 5), seed=seeds)
def test_float32_is_close(t: int, n: int, seed: int) -> None:
    targets = Random(seed).choices(range(n), k=t)
    assert_same(
        lambda ops, x: ops.cross_entropy(ops.rmsnorm(x, 1e-5), targets),
        numbers(Random(seed), t, n),
        dtype="float32",
        rel=1e-4,
    )
