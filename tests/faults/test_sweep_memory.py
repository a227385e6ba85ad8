"""A sweep may have any number of jobs: no process grows, and no job takes longer than those before."""

import pytest

from tests.faults.sweep_memory import MORE, growth, rows, slower, watched


@pytest.mark.parametrize(
    ("jobs", "parts"),
    [
        pytest.param(200, 4, marks=pytest.mark.slow),
        pytest.param(10_000, 100, marks=pytest.mark.soak),
    ],
)
def test_a_large_sweep_stays_flat(jobs: int, parts: int) -> None:
    found = rows(watched(jobs).looks, jobs, parts)
    grown = growth(found)
    assert max(grown.values()) <= MORE, (grown, found)
    assert slower(found) <= 2, found  # three, were the time of a job to grow with their number
