"""Short versions of the simulations of experiments/method; its page has the long ones."""

import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from microgpt.ablation.statistics.power import power, sd_limit
from microgpt.ablation.statistics.summary import LEVEL, summary
from microgpt.ablation.statistics.verdict import Verdict
from tests.running import REPOSITORY

METHOD = REPOSITORY / "experiments" / "method"
TIMES = 400


@pytest.fixture(scope="module")
def method() -> Any:
    """The module with the simulations."""
    sys.path.insert(0, str(METHOD))
    try:
        import simulate
        import soak  # noqa: F401  for the test of real judgements
    finally:
        sys.path.remove(str(METHOD))
    return simulate


def run(simulation: Callable[..., Any], *words: Any, **more: Any) -> Any:
    return simulation(np.random.default_rng(1), TIMES, *words, **more)


def near(found: float, expected: float) -> bool:
    """Whether a share of TIMES trials is what it should be, give or take 3.3 standard errors."""
    return abs(found - expected) < 3.3 * math.sqrt(expected * (1 - expected) / TIMES)


def at_most(found: float, expected: float) -> bool:
    return found < expected or near(found, expected)


@pytest.mark.parametrize("n", [5, 50])
def test_an_interval_holds_the_truth_19_times_of_20(method: Any, n: int) -> None:
    assert near(run(method.coverage, n), 0.95)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_false_words_of_a_whole_table_stay_at_5_percent(method: Any, correlation: float) -> None:
    found = run(method.family, 5, 4, correlation)
    assert at_most(found["together"], 0.05)
    assert found["together"] > 0, "a word that is never said is no word"
    assert found["alone"] > found["together"]


def test_a_truth_at_what_matters_is_rarely_put_on_either_side(method: Any) -> None:
    found = run(method.words, 10, method.MATTERS)
    assert at_most(found[Verdict.WORSE], 0.025)
    assert at_most(found[Verdict.EQUIVALENT] + found[Verdict.WORSE_LESS], 0.025)
    none = run(method.words, 10, 0.0)
    assert none[Verdict.EQUIVALENT] > 0.9
    far = run(method.words, 10, 2 * method.MATTERS)
    assert far[Verdict.WORSE] > 0.9


def test_worse_by_what_matters_is_tested_against_it(method: Any) -> None:
    found = run(method.supported, 5, 0.95 * method.MATTERS)
    assert at_most(found["now"], 0.025)
    assert found["before"] > 0.3


@pytest.mark.parametrize("sds", [(0.003, 0.06, 0.2), (0.0, 0.06, 0.2), (0.003, 0.0, 0.2)])
def test_intervals_hold_over_what_they_say(method: Any, sds: tuple[float, float, float]) -> None:
    found = run(method.crossed, 5, 300, sds)
    assert near(found["both"], 0.95)
    assert near(found["seeds"], 0.95)
    if sds[1]:
        assert found["seeds, of all"] < 0.85


def test_looking_after_every_seed_stays_at_5_percent(method: Any) -> None:
    found = run(method.looks, 50, 0.0)
    assert at_most(found, 0.05)
    assert run(method.peeking, 50) > 0.2


def test_how_a_sequence_ends(method: Any) -> None:
    matters = method.MATTERS
    assert run(method.ends, 50, 0.0, matters)["equivalent"] > 0.95
    assert run(method.ends, 50, 2 * matters, matters)["worse"] > 0.99
    edge = run(method.ends, 50, matters, matters)
    assert at_most(edge["equivalent"], 0.05)
    assert edge["worse"] > 0.9


def test_a_promised_power_is_kept(method: Any) -> None:
    found = run(method.promises, 5)
    assert near(found["detectable"], 0.8)
    assert found["seeds"] > 0.75


def test_the_number_of_seeds_is_the_smallest(method: Any) -> None:
    pilot = summary([0.01, 0.03, 0.02, 0.05, 0.00])
    assert pilot.sd is not None
    limit = sd_limit(pilot.sd, 5)
    for effect in (0.5, 0.05, 0.01):
        n = method.seeds_needed(effect, pilot, 4)
        assert power(effect / limit, n, LEVEL / 4) >= 0.8
        assert n == 2 or power(effect / limit, n - 1, LEVEL / 4) < 0.8


def test_a_claim_that_is_looked_at_after_every_seed_is_rarely_false(method: Any) -> None:
    worse = {"kind": "worse", "arms": [{"arm": 1}]}
    edge = [0.0, method.MATTERS]
    found = method.sequences(np.random.default_rng(1), 100, worse, edge, 20, each=True)
    assert found["supported"] + found["refuted"] < 0.12
    far = method.sequences(np.random.default_rng(1), 100, worse, [0.0, 2 * method.MATTERS], 20)
    assert far["supported"] > 0.95
    assert 5 <= far["seeds"] < 10


REAL = json.loads((METHOD / "soak.json").read_text(encoding="utf-8"))


def test_real_judgements_of_equal_arms_are_rarely_false() -> None:
    told = [one["answer"] for one in REAL["equal"]]
    assert len(told) == 200
    assert told.count("better") + told.count("worse") <= 0.05 * len(told)
    assert [one["answer"] for one in REAL["wider"]].count("better") >= 0.9 * len(REAL["wider"])


@pytest.mark.soak
def test_real_judgements_are_those_that_were_recorded(
    method: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soak

    monkeypatch.setattr(soak.grow, "Pool", soak.Here)
    for name, found in (("wider", soak.wider(soak.SOME)), ("equal", soak.equal(soak.TIMES))):
        assert [*found] == REAL[name]


def test_the_page_has_the_text_and_a_table_for_every_simulation() -> None:
    page = (METHOD / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"\{\w+\}", (METHOD / "page.md").read_text(encoding="utf-8"))
    assert all(part in page for part in parts)
    assert page.count("|---") > len(parts) - 2 >= 8
