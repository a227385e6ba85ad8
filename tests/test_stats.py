"""The statistics, on simulated seeds whose truth is known."""

import math
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from scipy import stats as scipy_stats

from microgpt.ablation.fit import Fit, power_law
from microgpt.ablation.stats import (
    LEVEL,
    detectable,
    holm,
    p_value,
    power,
    summary,
    word,
)

SEEDS = 5
TIMES = 1000  # simulated ablations


def within(found: float, expected: float) -> bool:
    """Whether a share of TIMES trials is what it should be, give or take 3.3 standard errors."""
    return abs(found - expected) < 3.3 * math.sqrt(expected * (1 - expected) / TIMES)


def ablation(rng: Random, means: Sequence[float], sd: float = 0.01) -> list[list[float]]:
    """Losses [arms][seeds]: what is common to a seed is larger than what is each run's own."""
    common = [rng.gauss(0, 0.05) for _ in range(SEEDS)]
    return [[mean + shared + rng.gauss(0, sd) for shared in common] for mean in means]


def words(losses: Sequence[Sequence[float]]) -> list[str]:
    """The words of all arms but the first, which is the baseline."""
    base, *others = losses
    differences = [summary([a - b for a, b in zip(arm, base)]) for arm in others]
    corrected = holm([p_value(d) or 0.0 for d in differences])
    return [word(d, p) for d, p in zip(differences, corrected)]


def test_the_mean_its_interval_and_p_are_those_of_scipy() -> None:
    one, other = [2.31, 2.28, 2.35, 2.30], [2.25, 2.26, 2.29, 2.27]
    found = summary([a - b for a, b in zip(one, other)])
    expected = scipy_stats.ttest_rel(one, other)
    assert p_value(found) == pytest.approx(expected.pvalue, rel=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_the_interval_holds_the_truth_19_times_of_20() -> None:
    rng = Random(1)
    hits = 0
    for _ in range(TIMES):
        found = summary([rng.gauss(2.2, 0.02) for _ in range(SEEDS)])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 2.2 <= found.high
    assert within(hits / TIMES, 0.95)


def test_false_positives_of_a_whole_ablation_stay_at_5_percent() -> None:
    """Four arms that do not differ from the baseline: any word but one is an error."""
    rng = Random(2)
    wrong = sum(
        set(words(ablation(rng, [2.2] * 5))) != {"not distinguishable"} for _ in range(TIMES)
    )
    assert wrong / TIMES < LEVEL or within(wrong / TIMES, LEVEL)
    assert wrong / TIMES > 0.01, "a test that never finds anything is no test"


def test_without_the_correction_there_would_be_more() -> None:
    rng = Random(2)
    wrong = 0
    for _ in range(TIMES):
        base, *others = ablation(rng, [2.2] * 5)
        ps = [p_value(summary([a - b for a, b in zip(arm, base)])) for arm in others]
        wrong += min(p for p in ps if p is not None) < LEVEL
    assert wrong / TIMES > 2 * LEVEL


def test_an_effect_is_found_and_has_its_direction() -> None:
    rng = Random(3)
    found = [words(ablation(rng, [2.2, 2.3, 2.1, 2.2])) for _ in range(TIMES)]
    assert sum(w[0] == "worse" for w in found) / TIMES > 0.99
    assert sum(w[1] == "better" for w in found) / TIMES > 0.99
    assert sum(w[2] == "not distinguishable" for w in found) / TIMES > 0.94


def test_power_is_the_share_of_effects_that_are_found() -> None:
    rng = Random(4)
    found = 0
    for _ in range(TIMES):
        difference = summary([rng.gauss(1.5, 1) for _ in range(SEEDS)])
        found += (p_value(difference) or 0.0) < LEVEL
    assert within(found / TIMES, power(1.5, SEEDS, LEVEL))


@pytest.mark.parametrize("comparisons", [1, 4])
def test_the_smallest_effect_that_could_be_shown(comparisons: int) -> None:
    difference = summary([0.01, 0.03, 0.02, 0.05, 0.00])
    smallest = detectable(difference, comparisons)
    assert smallest is not None
    assert difference.sd is not None
    at = power(smallest / difference.sd, 5, LEVEL / comparisons)
    assert at == pytest.approx(0.8, abs=1e-9)


def test_holm_by_hand() -> None:
    # sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_seed_has_a_mean_and_no_more() -> None:
    found = summary([2.2])
    assert (found.mean, found.sd, found.low, found.high) == (2.2, None, None, None)
    assert p_value(found) is None
    assert detectable(found, 1) is None
    assert word(found, None) == "not distinguishable"


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.5, 0.5, 0.5], 0.0)])
def test_seeds_without_any_spread(values: list[float], p: float) -> None:
    assert p_value(summary(values)) == p


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
        bends += found.word != "no bend distinguishable"
    assert within(hits / TIMES, 0.95)
    assert within(bends / TIMES, LEVEL)


def test_a_floor_bends_the_law() -> None:
    rng = Random(6)
    found: list[Fit] = [power_law(SIZES, law(rng, 0.6, floor=2.0)) for _ in range(200)]
    assert sum(fit.word == "flattens" for fit in found) > 190
    assert found[0].local[0].mean > 2 * found[0].local[-1].mean


@pytest.mark.parametrize(("effect", "n", "comparisons"), [(8, 2, 1), (200, 2, 24), (8, 3, 15)])
def test_the_power_of_few_seeds_is_that_of_a_simulation(
    effect: float, n: int, comparisons: int
) -> None:
    """Where SciPy's noncentral t has no answer."""
    level = 0.05 / comparisons
    draws = np.random.default_rng(0).normal(effect, 1, (20_000, n))
    p = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert power(effect, n, level) == pytest.approx(float(np.mean(p < level)), abs=0.015)
