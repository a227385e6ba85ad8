"""The power law, on simulated seeds whose truth is known."""

import math
from random import Random

import pytest

from microgpt.ablation.statistics.power_law import Fit, power_law
from microgpt.ablation.statistics.summary import LEVEL

SEEDS = 5
TIMES = 1000  # simulated ablations


def within(found: float, expected: float) -> bool:
    """Whether a share of TIMES trials is what it should be, give or take 3.3 standard errors."""
    return abs(found - expected) < 3.3 * math.sqrt(expected * (1 - expected) / TIMES)


SIZES = [1500, 2900, 4700, 9600, 16200]


def law(rng: Random, exponent: float, floor: float = 0.0, sd: float = 0.003) -> list[list[float]]:
    """Losses [seeds][sizes] by a power law over a floor."""
    losses = []
    for _ in range(SEEDS):
        common = rng.gauss(0, 0.01)
        seed = [floor + (2.8 - floor) * (n / 1000) ** -exponent for n in SIZES]
        losses.append([loss * math.exp(common + rng.gauss(0, sd)) for loss in seed])
    return losses


def test_an_exact_law_is_found_exactly() -> None:
    found = power_law(SIZES, [[3.0 * n**-0.08 for n in SIZES]] * 2)
    assert found.factor == pytest.approx(3.0)
    assert found.exponent.mean == pytest.approx(0.08)
    assert found.bend.mean == pytest.approx(0, abs=1e-12)
    assert [one.mean for one in found.local] == pytest.approx([0.08] * 4)
    assert [loss.mean for _, loss in found.line] == pytest.approx(
        [3.0 * n**-0.08 for n, _ in found.line]
    )


def test_the_exponents_interval_holds_the_truth_19_times_of_20() -> None:
    rng = Random(5)
    hits = bends = 0
    for _ in range(TIMES):
        found = power_law(SIZES, law(rng, 0.05))
        assert found.exponent.low is not None
        assert found.exponent.high is not None
        hits += found.exponent.low <= 0.05 <= found.exponent.high
        bends += found.word != "shows no bend"
    assert within(hits / TIMES, 0.95)
    assert within(bends / TIMES, LEVEL)


def test_a_floor_bends_the_law() -> None:
    rng = Random(6)
    found: list[Fit] = [power_law(SIZES, law(rng, 0.6, floor=2.0)) for _ in range(200)]
    assert sum(fit.word == "flattens" for fit in found) > 190
    assert found[0].local[0].mean > 2 * found[0].local[-1].mean
