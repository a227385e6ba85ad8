"""A sweep may have any number of jobs: no process grows, and no job takes longer than those before."""

import pytest

from tests.faults.sweep_memory import MORE, growth, rows, slower, watched


@pytest.mark.parametrize(
    ("jobs", "parts", "most"),  # so many jobs are too few for a median that noise leaves alone
    [
        pytest.param(200, 4, 2.0, marks=pytest.mark.slow),
        pytest.param(10_000, 100, MORE, marks=pytest.mark.soak),
    ],
)
def test_a_large_sweep_stays_flat(jobs: int, parts: int, most: float) -> None:
    found = rows(watched(jobs).looks, jobs, parts)
    grown = growth(found)
    assert max(grown.values()) <= MORE, (grown, found)
    assert slower(found) <= most, found  # three, were the time of a job to grow with their number
