"""Fixtures of the suite."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.figures import Note
from tests.faults.whole import family_of
from tests.running import wait_until

Noted = Callable[[str, int | str, str], None]


@pytest.fixture
def noted(request: pytest.FixtureRequest) -> Noted:
    """`noted(injected, times, seen)` writes the test's row; a sample's goes nowhere."""
    if request.node.get_closest_marker("soak") is None:
        return lambda *_: None
    return Note(request.node.originalname + request.node.name.partition("[")[2].rstrip("]"))


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path) -> Iterator[None]:
    """No process that was begun with outputs in the test's folder outlives it."""
    yield
    wait_until(lambda: not family_of(tmp_path))
