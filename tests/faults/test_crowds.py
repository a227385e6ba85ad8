"""Many at once: on one fresh store, and at their first start."""

from pathlib import Path

import pytest

from tests.faults.conftest import Noted
from tests.running import SHORT
from tests.test_tracking_faults import train_at_once

pytestmark = pytest.mark.soak


def test_sixteen_runs_at_once_on_a_fresh_store(tmp_path: Path, noted: Noted) -> None:
    train_at_once(tmp_path, 16, "trainer.num_steps=300")
    noted("16 tracked runs at once on a fresh store", 1, "all sent")


def test_eight_first_starts_at_once(tmp_path: Path, noted: Noted) -> None:
    """Each time there are no outputs yet."""
    times = 20
    for i in range(times):
        train_at_once(tmp_path / str(i), 8, *SHORT)
    noted("8 first starts at once", times, "160 runs, all sent")
