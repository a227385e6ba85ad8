"""Schedules, against their formulas."""

import math

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from microgpt.app import config_path
from microgpt.core.schedule.base import Schedule
from microgpt.core.schedule.constant import Constant
from microgpt.core.schedule.cosine import Cosine
from microgpt.core.schedule.inverse_sqrt import InverseSqrt
from microgpt.core.schedule.linear import Linear
from microgpt.core.schedule.wsd import WarmupStableDecay

NAMES = sorted(file.stem for file in (config_path() / "schedule").glob("*.yaml"))


def rates(schedule: Schedule, num_steps: int) -> list[float]:
    return [schedule(1.0, step, num_steps) for step in range(num_steps)]


def schedule(name: str, warmup_steps: int) -> Schedule:
    config = OmegaConf.load(config_path() / f"schedule/{name}.yaml")
    made: Schedule = instantiate(config, warmup_steps=warmup_steps)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_schedule_warms_up_to_the_peak_and_then_never_rises(name: str) -> None:
    for warmup_steps in (0, 1, 4, 10, 20):
        found = rates(schedule(name, warmup_steps), 10)
        rise, fall = found[:warmup_steps], found[warmup_steps:]
        assert rise == [(step + 1) / warmup_steps for step in range(len(rise))]
        assert fall == sorted(fall, reverse=True)
        assert all(0 <= rate <= 1 for rate in found)
        if warmup_steps < 10:
            assert max(found) == 1.0


def test_schedules_decay_as_they_say() -> None:
    assert rates(Linear(warmup_steps=0), 10) == [1 - step / 10 for step in range(10)]
    cosine = Cosine(warmup_steps=0, final=0.1)
    assert cosine(1.0, 5, 10) == pytest.approx(0.55)
    assert cosine(1.0, 10, 10) == pytest.approx(0.1)
    assert rates(Constant(warmup_steps=0), 10) == [1.0] * 10
    stable = rates(WarmupStableDecay(warmup_steps=0, decay=0.4), 10)
    expected = [*[1.0] * 6, *(1 - math.sqrt(i / 4) for i in range(4))]
    assert stable == pytest.approx(expected)
    assert WarmupStableDecay(warmup_steps=2, decay=1.0)(1.0, 12, 12) == 0.0


def test_the_inverse_square_root_is_that_of_the_paper() -> None:
    """min(step^-0.5, step warmup^-1.5), step counted from 1, over its peak warmup^-0.5."""
    found = rates(InverseSqrt(warmup_steps=4), 20)
    steps = range(1, 21)
    assert found == pytest.approx([2 * min(step**-0.5, step * 4**-1.5) for step in steps])
