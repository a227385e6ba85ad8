"""Claims and their verdicts, on losses whose truth is known."""

import re
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from microgpt.ablation.claims import Evidence, Evident, judge
from microgpt.ablation.statistics.power_law import power_law
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.core.check import BadValue
from microgpt.protocol.claims import claim
from microgpt.protocol.protocol import check
from microgpt.protocol.section import fits, question
from tests.experiments import EXPERIMENTS, asks
from tests.sweeps import asked

SUPPORTED, OPPOSITE, REFUTED, UNDECIDED = Outcome
KEY = "model.n_head"
MATTERS = 0.01


def evidence(
    means: Mapping[int, float],
    sd: float = 0.002,
    unranked: int | None = None,
    rng: Random | None = None,
) -> Evidence:
    """Arms with a mean each, over five seeds; the baseline is the third."""
    rng = rng or Random(0)
    common = [rng.gauss(0, 0.05) for _ in range(5)]
    arms = [
        Evident(
            f"n_head={n}",
            {KEY: str(n)},
            {seed: mean + shared + rng.gauss(0, sd) for seed, shared in enumerate(common)},
            "no reason" if n == unranked else None,
        )
        for n, mean in means.items()
    ]
    return Evidence(arms, arms[2], MATTERS, KEY, None)


VALLEY = {1: 2.30, 2: 2.24, 4: 2.20, 8: 2.21, 16: 2.35}
FLAT = dict.fromkeys(VALLEY, 2.2)
SLOPE = {1: 2.40, 2: 2.35, 4: 2.30, 8: 2.25, 16: 2.20}


@pytest.mark.parametrize(
    ("stated", "means", "verdict"),
    [
        ({"kind": "optimum"}, VALLEY, SUPPORTED),
        ({"kind": "optimum"}, FLAT, REFUTED),
        ({"kind": "optimum"}, SLOPE, REFUTED),
        ({"kind": "optimum"}, {**FLAT, 4: 2.18, 16: 2.25}, SUPPORTED),
        ({"kind": "optimum"}, {**FLAT, 4: 2.191}, UNDECIDED),
        ({"kind": "worse", "arms": [{KEY: 1}, {KEY: 16}]}, VALLEY, SUPPORTED),
        ({"kind": "worse", "arms": [{KEY: 1}, {KEY: 8}]}, FLAT, REFUTED),
        ({"kind": "worse", "arms": [{KEY: 16}], "than": {KEY: 1}}, VALLEY, SUPPORTED),
        ({"kind": "worse", "arms": [{KEY: 1}], "than": {KEY: 16}}, VALLEY, OPPOSITE),
        ({"kind": "better", "arms": [{KEY: 16}]}, SLOPE, SUPPORTED),
        ({"kind": "better", "arms": [{KEY: 1}]}, SLOPE, OPPOSITE),
        ({"kind": "better", "arms": [{KEY: 1}, {KEY: 16}]}, SLOPE, REFUTED),
        ({"kind": "worse", "arms": [{KEY: 1}]}, {**FLAT, 1: 2.205}, REFUTED),
        ({"kind": "equal", "arms": [{KEY: 1}, {KEY: 16}]}, FLAT, SUPPORTED),
        ({"kind": "equal", "arms": [{KEY: 1}, {KEY: 16}]}, VALLEY, REFUTED),
        (
            {"kind": "all", "claims": [{"kind": "optimum"}, {"kind": "worse", "arms": [{KEY: 1}]}]},
            VALLEY,
            SUPPORTED,
        ),
        (
            {
                "kind": "all",
                "claims": [{"kind": "optimum"}, {"kind": "better", "arms": [{KEY: 1}]}],
            },
            VALLEY,
            REFUTED,
        ),
    ],
)
def test_verdicts(stated: dict[str, Any], means: dict[int, float], verdict: str) -> None:
    judged = judge(claim(stated), evidence(means))
    assert judged.verdict == verdict
    assert "(95 % " in judged.because


def told(stated: dict[str, Any], means: dict[int, float]) -> list[str]:
    """What is told of each comparison, without the numbers."""
    because = judge(claim(stated), evidence(means)).because
    return re.sub(r" is [-+]\d.*? was claimed", "", because).split("; ")


def test_each_comparison_is_told_with_its_word_and_what_falls_short_first() -> None:
    one, last = {KEY: 1}, {KEY: 16}
    assert told({"kind": "better", "arms": [last, one]}, SLOPE) == [
        "n_head=1 minus n_head=4: opposite",
        "n_head=16 minus n_head=4: supported",
    ]
    assert told({"kind": "worse", "arms": [one]}, {**FLAT, 1: 2.205}) == [
        "n_head=1 minus n_head=4: refuted"
    ]
    assert told({"kind": "optimum"}, SLOPE) == [
        "the best inner arm is n_head=8",
        "n_head=16 minus n_head=8: opposite",
        "n_head=1 minus n_head=8: supported",
    ]


def test_what_is_open_is_told_before_what_holds_though_its_mean_is_larger() -> None:
    found = evidence({**FLAT, 1: 2.26, 16: 2.23})
    noisy = {seed: loss + 0.1 * (-1) ** seed for seed, loss in found.arms[0].losses.items()}
    arms = [replace(found.arms[0], losses=noisy), *found.arms[1:]]
    because = judge(claim({"kind": "optimum"}), replace(found, arms=arms)).because
    words = [each.rpartition(": ")[2] for each in because.split("; ")[1:]]
    assert words == ["undecided", "supported"]


def test_a_part_that_does_not_hold_has_the_interval_of_all_parts() -> None:
    worse = {"kind": "worse", "arms": [{KEY: 1}]}
    found = evidence({**FLAT, 1: 2.205})
    alone = judge(claim(worse), found).because
    parts = judge(claim({"kind": "all", "claims": [worse, worse]}), found).because
    low, low_of_all = (float(re.findall(r"95 % (\S+)", text)[0]) for text in (alone, parts))
    assert low_of_all < low
    held = evidence({**FLAT, 1: 2.3})
    assert (
        judge(claim(worse), held).because
        in judge(claim({"kind": "all", "claims": [worse, worse]}), held).because
    )


@pytest.mark.parametrize(
    "stated",
    [
        {"kind": "optimum"},
        {"kind": "worse", "arms": [{KEY: 1}]},
        {"kind": "equal", "arms": [{KEY: 1}]},
    ],
)
def test_noise_hides_everything(stated: dict[str, Any]) -> None:
    assert judge(claim(stated), evidence(VALLEY, sd=0.3)).verdict == UNDECIDED


def test_worse_by_what_matters_is_rarely_supported_where_it_is_a_little_less() -> None:
    rng, stated = Random(8), {"kind": "worse", "arms": [{KEY: 1}]}
    less = {**FLAT, 1: 2.2 + 0.95 * MATTERS}
    found = [judge(claim(stated), evidence(less, rng=rng)).verdict for _ in range(400)]
    assert found.count(SUPPORTED) <= 0.05 * 400
    assert UNDECIDED in found


def test_all_of_several_need_no_correction_and_any_of_them_does() -> None:
    """An interval that ends beyond what matters alone, and before it together with three others."""
    losses = {1: [0.0, 0.0, 0.0, 0.0, 0.0], 2: [0.014, 0.0175, 0.0145, 0.0185, 0.0155]}
    arms = [
        Evident(f"n_head={n}", {KEY: str(n)}, dict(enumerate(losses[min(n, 2)])), None)
        for n in (1, 2, 4, 8, 16)
    ]
    found = Evidence(arms, arms[0], 0.0135, KEY, None)
    stated = {"arms": [{KEY: n} for n in (2, 4, 8, 16)]}
    assert judge(claim({"kind": "worse", **stated}), found).verdict is SUPPORTED
    short = Evidence(arms, arms[0], 0.0186, KEY, None)
    assert judge(claim({"kind": "worse", "arms": [{KEY: 2}]}), short).verdict is REFUTED
    assert judge(claim({"kind": "worse", **stated}), short).verdict is UNDECIDED
    parts = [{"kind": "worse", "arms": [one]} for one in stated["arms"]]
    each = judge(claim({"kind": "all", "claims": parts}), short)
    assert each.verdict is UNDECIDED
    assert each.because.count("is undecided: ") == 4  # with the interval by which it is
    assert judge(claim({"kind": "all", "claims": parts}), found).verdict is SUPPORTED


def test_a_significant_difference_that_does_not_matter_confirms_nothing() -> None:
    small = {**FLAT, 1: 2.205}
    stated = {"kind": "worse", "arms": [{KEY: 1}]}
    assert judge(claim(stated), evidence(small, sd=0.0005)).verdict == REFUTED


def test_an_optimum_is_rarely_confirmed_where_there_is_none() -> None:
    rng = Random(7)
    no_threshold = [evidence(FLAT, 0.02, rng=rng) for _ in range(500)]
    found = [judge(claim({"kind": "optimum"}), e).verdict for e in no_threshold]
    assert found.count(SUPPORTED) <= 0.05 * 500


def test_an_arm_that_is_not_ranked_decides_nothing() -> None:
    for stated in ({"kind": "optimum"}, {"kind": "worse", "arms": [{KEY: 1}]}):
        judged = judge(claim(stated), evidence(VALLEY, unranked=1))
        assert judged.verdict == UNDECIDED
        assert judged.because == "n_head=1 is not ranked (no reason)"


def law(exponent: float, bend: float, sd: float = 0.0005) -> Evidence:
    rng, sizes = Random(0), [1000, 2000, 4000, 8000, 16000]
    losses = [
        [
            3 * (n / 4000) ** -exponent * (1 + bend * (i - 2) ** 2 + rng.gauss(0, sd))
            for i, n in enumerate(sizes)
        ]
        for _ in range(5)
    ]
    found = evidence(VALLEY)
    return Evidence(found.arms, found.baseline, MATTERS, KEY, power_law(sizes, losses))


@pytest.mark.parametrize(
    ("given", "claimed", "verdict"),
    [
        ((0.08, 0.01), {"exponent": [0.05, 0.1], "bend": "flattens"}, SUPPORTED),
        ((0.08, 0.01), {"exponent": [0.05, 0.1]}, SUPPORTED),
        ((0.08, -0.01), {"exponent": [0.05, 0.1], "bend": "flattens"}, REFUTED),
        ((0.02, -0.01), {"exponent": [0.05, 0.1], "bend": "flattens"}, REFUTED),
        ((0.08, 0.0), {"exponent": [0.05, 0.1], "bend": "flattens"}, UNDECIDED),
        ((0.02, 0.01), {"exponent": [0.05, 0.1], "bend": "flattens"}, REFUTED),
        ((0.08, 0.0), {"exponent": [0.0801, 0.1]}, UNDECIDED),
    ],
)
def test_power_laws(given: tuple[float, float], claimed: dict[str, Any], verdict: str) -> None:
    judged = judge(claim({"kind": "power_law", **claimed}), law(*given))
    words = [part.rpartition(": ")[2] for part in judged.because.split("; ")]
    assert judged.verdict == verdict
    assert len(words) == len(claimed)
    assert (verdict in words) or verdict == REFUTED
    assert ("refuted" in words) == (given[0] == 0.02)
    assert ("opposite" in words) == (given[1] < 0 and "bend" in claimed)


@pytest.mark.parametrize(
    ("stated", "line"),
    [
        ({"kind": "great"}, "ablation.claim.kind='great': must be one of optimum, worse"),
        ({}, "ablation.claim.kind=None: must be one of"),
        ({"kind": "worse"}, "missing 1 required keyword-only argument: 'arms'"),
        ({"kind": "worse", "arms": 3}, "ablation.claim.arms=3: must be a list"),
        ({"kind": "optimum", "arms": []}, "ablation.claim (optimum)"),
        ({"kind": "power_law", "exponent": [2, 1]}, "must be [low, high]"),
        ({"kind": "power_law", "exponent": 2}, "must be [low, high]"),
        ({"kind": "power_law", "exponent": [1, 2], "bend": "up"}, "must be flattens, steepens"),
        ({"kind": "all", "claims": []}, "must be a list of claims"),
        ({"kind": "all", "claims": [{"kind": "no"}]}, "must be one of"),
    ],
)
def test_claims_that_are_none(stated: dict[str, Any], line: str) -> None:
    with pytest.raises(BadValue) as error:
        claim(stated)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_claims_about_arms_that_are_not_there() -> None:
    with pytest.raises(
        BadValue, match=r"must fit one arm of the sweep, not 0; there are n_head=1, n_head=2"
    ):
        judge(claim({"kind": "worse", "arms": [{KEY: 3}]}), evidence(VALLEY))
    two = evidence({1: 2.0, 2: 2.1, 4: 2.2})
    with pytest.raises(BadValue, match="needs three arms"):
        judge(claim({"kind": "optimum"}), Evidence(two.arms[:2], two.arms[0], 0.01, KEY, None))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"question": None}, "ablation.question=None: must be there"),
        ({"colour": 3}, "ablation.colour=3: no such key"),
        ({"matters": -1}, "ablation.matters=-1: must be a number >= 0"),
        ({"matters": "much"}, "ablation.matters='much': must be a number"),
        ({"baseline": 4}, "ablation.baseline=4: must hold keys"),
        ({"fit": "tokens"}, "ablation.fit='tokens': must be n_params"),
    ],
)
def test_sections_that_are_none(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(BadValue) as error:
        question(asked(**changes))
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        ({KEY: 4}, True),
        ({KEY: "4"}, True),
        ({KEY: 4.0}, True),
        ({KEY: 8}, False),
        ({"lr": 0.01}, True),
    ],
)
def test_values_of_arms_are_compared_as_numbers(wanted: dict[str, Any], held: bool) -> None:
    assert fits({KEY: "4", "lr": "1e-2"}, wanted) is held


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_asks_a_question_that_can_be_judged(experiment: str) -> None:
    section, arms = asks(experiment)
    if section is not None:
        check(question(section), arms)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (
            {"kind": "worse", "arms": [{KEY: 1}, {KEY: 8}]},
            "n_head=1 and n_head=8 worse than the baseline",
        ),
        (
            {"kind": "better", "arms": [{"a/b": "x"}], "than": {"c.lr": 1, "d.lr": 2}},
            "b=x better than c.lr=1 d.lr=2",
        ),
        ({"kind": "equal", "arms": [{KEY: 1}]}, "n_head=1 as good as the baseline"),
        (
            {"kind": "power_law", "exponent": [0.05, 0.1]},
            "a power law with an exponent from 0.05 to 0.1",
        ),
        (
            {
                "kind": "all",
                "claims": [{"kind": "optimum"}, {"kind": "better", "arms": [{KEY: 1}]}],
            },
            "one of the inner arms better than both ends, and n_head=1 better than the baseline",
        ),
    ],
)
def test_a_claim_in_words(stated: dict[str, Any], words: str) -> None:
    assert str(claim(stated)) == words
