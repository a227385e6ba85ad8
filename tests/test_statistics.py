"""The statistics: by definition, by SciPy, by hand. `test_method.py` has the simulations."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as scipy_stats

from microgpt.ablation.statistics.anytime import anytime, counts, sequential
from microgpt.ablation.statistics.crossed import (
    contributions,
    over_seeds_and_documents,
)
from microgpt.ablation.statistics.power import detectable, power, sd_limit
from microgpt.ablation.statistics.summary import LEVEL, p_value, summary
from microgpt.ablation.statistics.verdict import Outcome, Verdict, at_least, equal, verdict

ends = some.floats(-3, 3, allow_nan=False)


def test_the_mean_its_interval_and_p_are_those_of_scipy() -> None:
    one, other = [2.31, 2.28, 2.35, 2.30], [2.25, 2.26, 2.29, 2.27]
    found = summary([a - b for a, b in zip(one, other)])
    expected = scipy_stats.ttest_rel(one, other)
    assert p_value(found) == pytest.approx(expected.pvalue, rel=1e-12)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_intervals_of_several_comparisons_agree_with_their_p() -> None:
    values = [0.02, 0.05, 0.01, 0.04, 0.03]
    alone, together = summary(values), summary(values, 4)
    wider = scipy_stats.ttest_1samp(values, 0).confidence_interval(1 - LEVEL / 4)
    assert (together.low, together.high) == pytest.approx((wider.low, wider.high), rel=1e-12)
    p = p_value(alone)
    assert p is not None
    assert p_value(together, 4) == pytest.approx(4 * p)
    assert p_value(summary([1.0, -1.0, 0.5, -0.4]), 4) == 1.0


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.5, 0.5, 0.5], 0.0)])
def test_seeds_without_any_spread(values: list[float], p: float) -> None:
    assert p_value(summary(values)) == p


def test_one_seed_has_a_mean_and_no_more() -> None:
    found = summary([2.2])
    assert (found.mean, found.sd, found.low, found.high) == (2.2, None, None, None)
    assert p_value(found) is None
    assert detectable(found, 1) is None
    assert anytime([2.2]).low is None


WORDS = {
    (-0.03, -0.01): Verdict.BETTER,
    (0.01, 0.03): Verdict.WORSE,
    (-0.009, -0.001): Verdict.BETTER_LESS,
    (0.001, 0.009): Verdict.WORSE_LESS,
    (-0.02, -0.001): Verdict.BETTER_SOME,
    (0.001, 0.01): Verdict.WORSE_SOME,
    (-0.009, 0.009): Verdict.EQUIVALENT,
    (0.0, 0.0): Verdict.EQUIVALENT,
    (-0.01, 0.009): Verdict.UNDECIDED,
    (-math.inf, math.inf): Verdict.UNDECIDED,
}


@pytest.mark.parametrize("interval", WORDS)
def test_the_words(interval: tuple[float, float]) -> None:
    assert verdict(*interval, 0.01) is WORDS[interval]


@given(ends, ends, some.floats(0, 2))
def test_exactly_one_word_holds_and_it_is_true(one: float, other: float, matters: float) -> None:
    low, high = sorted((one, other))
    word = verdict(low, high, matters)
    inside = -matters < low and high < matters
    assert word.small == inside
    assert word.direction == ("worse" if low > 0 else "better" if high < 0 else None)
    assert (word is Verdict.WORSE) == (low > 0 and low >= matters)
    assert (word is Verdict.BETTER) == (high < 0 and high <= -matters)
    mirrored = verdict(-high, -low, matters)
    assert mirrored == word.replace("better", "?").replace("worse", "better").replace("?", "worse")
    assert word.is_answer() == (low > 0 or high < 0 or inside)


@pytest.mark.parametrize("one", Verdict)
@pytest.mark.parametrize("other", Verdict)
def test_words_contradict_each_other_if_no_difference_fits_both(
    one: Verdict, other: Verdict
) -> None:
    def fits(difference: float, word: Verdict) -> bool:
        return any(
            low <= difference <= high
            for (low, high), said in {**WORDS, (-0.03, -0.001): Verdict.BETTER_SOME}.items()
            if said is word
        )

    differences = [0.0005 * i for i in range(-100, 101)]
    common = any(fits(d, one) and fits(d, other) for d in differences)
    assert one.contradicts(other) == (not common)


CLAIMS = {
    (0.01, 0.02): Outcome.SUPPORTED,
    (0.0095, 0.02): Outcome.UNDECIDED,
    (0.001, 0.0099): Outcome.REFUTED,  # real, but too small
    (-0.005, 0.005): Outcome.REFUTED,  # equivalent
    (-0.005, -0.001): Outcome.REFUTED,
    (-0.03, 0.005): Outcome.REFUTED,
    (-0.02, -0.001): Outcome.OPPOSITE,
    (-0.03, -0.02): Outcome.OPPOSITE,
    (-0.03, 0.03): Outcome.UNDECIDED,
}


@pytest.mark.parametrize("interval", CLAIMS)
def test_a_claim_is_tested_against_what_matters(interval: tuple[float, float]) -> None:
    assert at_least(*interval, 0.01) is CLAIMS[interval]


@given(ends, ends, some.floats(0, 2))
def test_what_is_said_of_a_claim_agrees_with_the_arms_word(
    one: float, other: float, matters: float
) -> None:
    low, high = sorted((one, other))
    word, claim = verdict(low, high, matters), at_least(low, high, matters)
    assert (claim is Outcome.SUPPORTED) == (word is Verdict.WORSE)
    assert (claim is Outcome.OPPOSITE) == (word in (Verdict.BETTER, Verdict.BETTER_SOME))
    if word.small:
        assert claim is Outcome.REFUTED
        assert equal(low, high, matters) is Outcome.SUPPORTED
    elif word in (Verdict.BETTER, Verdict.WORSE):
        assert equal(low, high, matters) is Outcome.REFUTED
    else:
        assert equal(low, high, matters) is Outcome.UNDECIDED


def e_value(x: np.ndarray, mean: float) -> float:
    """The likelihood of x / |x_1| under N(effect, 1), effects from N(0, 1), over that under N(0, 1).

    By numerical integration over the scale, which the ratio does not depend on, and the effect.
    """
    z = x - mean
    logs = np.linspace(-12, 12, 1001)[:, None]  # of the scale
    effects = np.linspace(-9, 9, 361)
    base = -0.5 * np.exp(2 * logs) * (z**2).sum() + len(z) * logs
    shifted = base + np.exp(logs) * z.sum() * effects - 0.5 * len(z) * effects**2
    prior = np.exp(-0.5 * effects**2)
    return float((np.exp(shifted) * prior).sum() / prior.sum() / np.exp(base).sum())


@pytest.mark.parametrize("n", [5, 8, 20])
def test_the_ends_of_an_anytime_interval_are_where_the_e_value_is_20(n: int) -> None:
    rng = Random(n)
    x = [rng.gauss(0.5, 1) for _ in range(n)]
    found = anytime(x)
    assert found.low is not None
    assert found.high is not None
    for end in (found.low, found.high):
        assert e_value(np.array(x), end) == pytest.approx(1 / LEVEL, rel=1e-3)
    assert e_value(np.array(x), found.mean) < 1 / LEVEL


def test_an_anytime_interval_is_wider_than_a_fixed_one_and_not_there_at_first() -> None:
    rng = Random(1)
    x = [rng.gauss(0, 1) for _ in range(50)]
    for n in range(2, 51):
        fixed, found = summary(x[:n]), anytime(x[:n])
        assert fixed.high is not None
        assert (found.low is None) == (found.high is None) == (n < 5)
        assert found.high is None or found.high > fixed.high
    for comparisons in (2, 15):
        wider = anytime(x, comparisons).high
        assert wider is not None
        assert wider > float(anytime(x).high or 0)
    assert anytime(x[:5], 15).high is None
    assert anytime([0.25] * 5).high == 0.25


def test_looks_end_with_an_answer_or_with_the_most() -> None:
    far = [0.05, 0.06, 0.055, 0.052, 0.058] * 10
    *_, (found, word) = sequential(lambda n: far[:n], 0.01, 50)
    assert (found.n, word) == (5, Verdict.WORSE)
    rng = Random(3)
    wild = [rng.gauss(0, 1) for _ in range(20)]
    told = list(sequential(lambda n: wild[:n], 0.01, 20))
    assert [found.n for found, _ in told] == list(counts(20)) == [5, 9, 13, 17, 20]
    assert told[-1][1] is Verdict.UNDECIDED
    near = [0.014 + 0.006 * math.cos(i) for i in range(50)]
    first = [word for _, word in sequential(lambda n: near[:n], 0.01, 50)]
    assert first[-1] is Verdict.WORSE_SOME


def test_contributions_of_documents_give_the_loss_of_each_seed() -> None:
    rng = np.random.default_rng(0)
    tokens = 1.0 + rng.poisson(5, 30)
    nats = tokens * rng.normal(2.3, 0.4, (4, 30))
    found = contributions(nats, tokens)
    assert found.mean(axis=1) == pytest.approx(nats.sum(axis=1) / tokens.sum(), rel=1e-12)
    drawn = [rng.integers(0, 30, 30) for _ in range(4000)]
    ratios = [nats[:, i].sum() / (4 * tokens[i].sum()) for i in drawn]  # the bootstrap of documents
    expected = found.mean(axis=0).std() / math.sqrt(30)
    assert np.std(ratios) == pytest.approx(expected, rel=0.05)


def test_variances_over_seeds_and_documents_are_those_that_made_the_data() -> None:
    rng = np.random.default_rng(1)
    sds = 0.3, 0.2, 1.0
    d = 5 + sds[0] * rng.standard_normal((300, 1)) + sds[1] * rng.standard_normal(400)
    found = over_seeds_and_documents(d + sds[2] * rng.standard_normal((300, 400)))
    assert (found.seed, found.document, found.rest) == pytest.approx(sds, rel=0.1)
    half = 1.96 * math.sqrt(0.3**2 / 300 + 0.2**2 / 400 + 1 / 120_000)
    assert found.high - found.mean == pytest.approx(half, rel=0.06)


def test_without_an_effect_of_documents_the_interval_is_that_over_seeds() -> None:
    rng = np.random.default_rng(2)
    d = np.repeat(rng.standard_normal((8, 1)), 50, axis=1)
    means = d.mean(axis=1).tolist()
    both, alone = over_seeds_and_documents(d), summary(means)
    assert (both.low, both.high) == pytest.approx((alone.low, alone.high))
    assert both.df == pytest.approx(7)
    wide = over_seeds_and_documents(d, 3)
    assert wide.high == pytest.approx(summary(means, 3).high)


@pytest.mark.parametrize(
    ("effect", "n", "comparisons"), [(1.5, 5, 1), (0.4, 50, 4), (8, 2, 1), (200, 2, 24), (8, 3, 15)]
)
def test_power_is_the_share_of_effects_that_are_found(
    effect: float, n: int, comparisons: int
) -> None:
    level = LEVEL / comparisons
    draws = np.random.default_rng(0).normal(effect, 1, (20_000, n))
    p = scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue
    assert power(effect, n, level) == pytest.approx(float(np.mean(p < level)), abs=0.015)


def test_the_limit_of_the_sd_holds_four_times_of_five() -> None:
    sds = np.random.default_rng(0).standard_normal((20_000, 5)).std(axis=1, ddof=1)
    assert np.mean([sd_limit(sd, 5) > 1 for sd in sds]) == pytest.approx(0.8, abs=0.01)
