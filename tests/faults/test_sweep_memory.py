"""A sweep may have any number of jobs: no process grows, and no job takes longer than those before."""

import pytest

from tests.faults.sweep_memory import FIGURES, MORE, measured, write

LARGE = 10_000


@pytest.mark.parametrize(
    ("jobs", "parts", "most"),  # so many jobs are too few for a median that noise leaves alone
    [
        pytest.param(200, 4, 2.0, marks=pytest.mark.slow),
        pytest.param(LARGE, 100, MORE, marks=pytest.mark.soak),
    ],
)
def test_a_large_sweep_stays_flat(jobs: int, parts: int, most: float) -> None:
    if jobs == LARGE:
        FIGURES.unlink(missing_ok=True)
    found = measured(jobs, parts)
    assert max(found["growth"].values()) <= MORE, found
    assert found["slower"] <= most, found  # three, were the time of a job to grow with their number
    if jobs == LARGE:
        write(found)
