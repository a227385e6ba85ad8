"""PyTorch as an outside oracle: what it computed was recorded by tests/oracle/record.py."""

from collections.abc import Callable

import pytest

from microgpt.accelerate import NumpyEngine
from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.vector.engine import VectorEngine
from tests.oracle import ours
from tests.oracle.case import Case, far_apart, names, recorded

KINDS: dict[str, Callable[[Engine, str, Case], Case]] = {
    "layer": ours.layer,
    "loss": ours.loss,
    "gpt": ours.gpt,
    "rule": ours.rule,
}
WITHIN = {"muon": 1e-6, "muon_bfloat16": 0.03}  # of the largest number beside; 1e-9 for the others


def numpy() -> Engine:
    return NumpyEngine(dtype="float64")


@pytest.mark.parametrize("engine", [ScalarEngine, VectorEngine, numpy])
@pytest.mark.parametrize("name", names())
def test_what_pytorch_computed(name: str, engine: Callable[[], Engine]) -> None:
    case = recorded(name)
    found = KINDS[case["kind"]](engine(), name, case)
    expected = {key: case[key] for key in found}
    assert far_apart(found, expected, WITHIN.get(name, 1e-9)) == []
