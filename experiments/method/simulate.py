"""Simulations of the statistics, on differences whose truth is known.

`python experiments/method/page.py` runs each of them with 2,000 repetitions and writes the page; the tests
run them with fewer. Differences are in units of the loss: what matters is MATTERS, a standard deviation SD.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from microgpt.ablation.claims import Evident, judged
from microgpt.ablation.statistics.anytime import anytime, sequential
from microgpt.ablation.statistics.crossed import (
    contributions,
    over_seeds_and_documents,
)
from microgpt.ablation.statistics.power import POWER, detectable, power, sd_limit
from microgpt.ablation.statistics.summary import LEVEL, Summary, p_value, summary
from microgpt.ablation.statistics.verdict import Outcome, Verdict, at_least, verdict
from microgpt.protocol.section import Question
from microgpt.protocol.stopping import SEQUENTIAL
from microgpt.protocol.stopping import looks as looks_of

MATTERS, SD = 0.01, 0.004
DRAWS = 100_000  # for a quantile
MOST = 1_000_000  # seeds that are thought of
FRESH = 500  # experiments on which the power of one plan is measured
Floats = NDArray[np.float64]
Draw = Callable[[Generator, int], Floats]  # that many numbers with mean 0 and variance 1


def normal(rng: Generator, n: int) -> Floats:
    return rng.standard_normal(n)


def heavy(rng: Generator, n: int) -> Floats:
    """Student's t with 5 degrees of freedom."""
    return rng.standard_t(5, n) / np.sqrt(5 / 3)


def skewed(rng: Generator, n: int) -> Floats:
    """Exponential."""
    return rng.exponential(1.0, n) - 1


def word(found: Summary) -> Verdict:
    """The word for an interval."""
    assert found.low is not None
    assert found.high is not None
    return verdict(found.low, found.high, MATTERS)


def coverage(rng: Generator, times: int, n: int, draw: Draw = normal) -> float:
    """How often Student's interval over `n` seeds contains the true difference, which is MATTERS."""
    found = [summary((MATTERS + SD * draw(rng, n)).tolist()) for _ in range(times)]
    return float(np.mean([bool(s.low <= MATTERS <= s.high) for s in found]))  # type: ignore[operator]


def family(rng: Generator, times: int, n: int, arms: int, correlation: float) -> dict[str, float]:
    """How often any of some arms without a difference is called better or worse.

    `together`: with the intervals of a table; `alone`: without correction; `t`: by a multivariate t
    distribution with one common variance and the true correlation. `width`: half the width of the
    intervals over that of those whose family-wise error is just LEVEL.
    """
    x = _differences(rng, (times, n, arms), correlation)
    wrong = {}
    for name, comparisons in (("together", arms), ("alone", 1)):
        tables = [[word(summary((SD * y).tolist(), comparisons)) for y in table.T] for table in x]
        wrong[name] = float(np.mean([any(w.direction for w in table) for table in tables]))
    means = _differences(rng, (DRAWS, 1, arms), correlation)[:, 0]
    common = np.abs(means).max(axis=1) / np.sqrt(rng.chisquare(n - 1, DRAWS) / (n - 1))
    wrong["t"] = float(np.mean(_largest_t(x) > np.quantile(common, 1 - LEVEL)))
    one = summary(x[0, :, 0].tolist(), arms)
    half = (one.mean - float(one.low or 0)) * np.sqrt(n) / float(one.sd or 1)
    exact = np.quantile(_largest_t(_differences(rng, (5 * times, n, arms), correlation)), 1 - LEVEL)
    return {**wrong, "width": float(half / exact)}


def _differences(rng: Generator, shape: tuple[int, int, int], correlation: float) -> Floats:
    """Normal differences `[times][n][arms]`, with this correlation between arms."""
    x = np.sqrt(1 - correlation) * rng.standard_normal(shape)
    x += np.sqrt(correlation) * rng.standard_normal((*shape[:2], 1))
    return np.asarray(x)


def _largest_t(x: Floats) -> Floats:
    """The largest absolute t-value of each table, from `[times][n][arms]`."""
    t = np.abs(x.mean(axis=1)) * np.sqrt(x.shape[1]) / x.std(axis=1, ddof=1)
    return np.asarray(t.max(axis=1))


def words(rng: Generator, times: int, n: int, truth: float) -> dict[Verdict, float]:
    """How often each word is said of an arm whose true difference is `truth`."""
    found = [word(summary((truth + SD * normal(rng, n)).tolist())) for _ in range(times)]
    return {each: found.count(each) / times for each in Verdict}


def supported(rng: Generator, times: int, n: int, truth: float) -> dict[str, float]:
    """How often "worse by at least MATTERS" is supported; `before`: by a test against 0."""
    now = before = 0
    for _ in range(times):
        found = summary((truth + SD * normal(rng, n)).tolist())
        now += at_least(float(found.low or 0), float(found.high or 0), MATTERS) is Outcome.SUPPORTED
        before += float(p_value(found) or 0) < LEVEL and found.mean >= MATTERS
    return {"now": now / times, "before": before / times}


def crossed(
    rng: Generator,
    times: int,
    seeds: int,
    documents: int,
    sds: tuple[float, float, float],
    draw: Draw = normal,
) -> dict[str, float]:
    """How often intervals from nats of documents contain the truth, MATTERS nats per token.

    sds  of a seed, a document's nats per token, and what is left
    `both`: over seeds and documents. `seeds`: over seeds alone, the truth being that of these documents;
    `seeds, of all`: the same, the truth being that of all documents.
    """
    hits = {"both": 0, "seeds": 0, "seeds, of all": 0}
    for _ in range(times):
        tokens = 2.0 + rng.poisson(5, documents)
        document = tokens * sds[1] * draw(rng, documents)
        each = MATTERS * tokens + document + tokens * sds[0] * rng.standard_normal((seeds, 1))
        base = tokens * (2.3 + 0.5 * rng.standard_normal(documents))
        base = base + tokens * 0.01 * rng.standard_normal((seeds, 1))
        nats = base + each + sds[2] * np.sqrt(tokens) * rng.standard_normal((seeds, documents))
        d = contributions(nats, tokens) - contributions(base, tokens)
        both, alone = over_seeds_and_documents(d), summary(d.mean(axis=1).tolist())
        here = MATTERS + document.sum() / tokens.sum()
        hits["both"] += both.low <= MATTERS <= both.high
        hits["seeds"] += float(alone.low or 0) <= here <= float(alone.high or 0)
        hits["seeds, of all"] += float(alone.low or 0) <= MATTERS <= float(alone.high or 0)
    return {key: count / times for key, count in hits.items()}


def looks(rng: Generator, times: int, most: int, truth: float, draw: Draw = normal) -> float:
    """How often any look, after every seed up to `most`, gives an interval without the truth."""
    wrong = 0
    for _ in range(times):
        x = (truth + SD * draw(rng, most)).tolist()
        found = [anytime(x[:n]) for n in range(2, most + 1)]
        known = [(s.low, s.high) for s in found if s.low is not None and s.high is not None]
        wrong += any(not low <= truth <= high for low, high in known)
    return wrong / times


def peeking(rng: Generator, times: int, most: int) -> float:
    """How often a t-test after every seed calls arms without a difference different."""
    x = rng.standard_normal((times, most))
    n = np.arange(1, most + 1)
    mean = x.cumsum(axis=1) / n
    sd = np.sqrt(np.maximum((x**2).cumsum(axis=1) / n - mean**2, 0)[:, 1:] * n[1:] / (n[1:] - 1))
    from scipy.special import stdtrit

    wrong = np.abs(mean[:, 1:]) > stdtrit(n[1:] - 1, 1 - LEVEL / 2) * sd / np.sqrt(n[1:])
    return float(wrong.any(axis=1).mean())


def ends(rng: Generator, times: int, most: int, truth: float, matters: float) -> dict[str, float]:
    """How a sequence of looks ends: the share of each answer, the mean and 9th decile of its seeds."""
    told, seeds = [], []
    for _ in range(times):
        x = (truth + SD * normal(rng, most)).tolist()
        *_, (found, last) = sequential(lambda n, x=x: x[:n], matters, most)  # type: ignore[misc]
        told.append("equivalent" if last.small else last.direction or "undecided")
        seeds.append(found.n)
    shares = {each: told.count(each) / times for each in ("better", "worse", "equivalent")}
    return {**shares, "seeds": float(np.mean(seeds)), "most": float(np.quantile(seeds, 0.9))}


def fixed(rng: Generator, times: int, truth: float, matters: float, power: float) -> int:
    """The fixed number of seeds at which the answer is right with this power.

    Right is `worse`; if the truth is 0, that all of Student's interval is inside (-matters, matters).
    """
    from scipy.special import stdtrit

    for n in range(3, 1000):
        x = truth + SD * rng.standard_normal((times, n))
        half = stdtrit(n - 1, 1 - LEVEL / 2) * x.std(axis=1, ddof=1) / np.sqrt(n)
        right = x.mean(axis=1) > half if truth else np.abs(x.mean(axis=1)) + half < matters
        if np.mean(right) >= power:
            return n
    raise ValueError(f"truth={truth}: too small")


def sequences(
    rng: Generator,
    times: int,
    claim: Mapping[str, Any],
    means: Sequence[float],
    most: int,
    each: bool = False,
) -> dict[str, float]:
    """How a claim about arms with these true mean losses ends in a sequential protocol.

    The first arm is the baseline; a difference between two arms has a standard deviation of SD.
    `supported`, `refuted` (or opposite): their shares; `seeds`: the mean number that it takes.

    each  whether there is a look after every seed, not only those of a protocol
    """
    asked = Question("", "", "", {"arm": 0}, MATTERS, claim, stopping=SEQUENTIAL, axis="arm")
    numbers = [len(own) for own in looks_of(SEQUENTIAL, range(most))]
    ends = []
    for _ in range(times):
        own = SD / np.sqrt(2) * normal(rng, most * len(means)).reshape(most, -1)
        ends.append(_end(asked, means + own, range(2, most + 1) if each else numbers))
    told = [outcome for outcome, _ in ends]
    refuted = told.count(Outcome.REFUTED) + told.count(Outcome.OPPOSITE)
    return {
        "supported": told.count(Outcome.SUPPORTED) / times,
        "refuted": refuted / times,
        "seeds": float(np.mean([n for _, n in ends])),
    }


def _end(asked: Question, losses: Floats, numbers: Sequence[int]) -> tuple[Outcome, int]:
    """The verdict at the first look that decides, and its number of seeds."""
    for n in numbers:
        arms = [
            Evident(f"arm={i}", {"arm": str(i)}, dict(enumerate(own[:n].tolist())), None)
            for i, own in enumerate(losses.T)
        ]
        found = judged(asked, arms)
        assert found is not None
        if found.verdict is not Outcome.UNDECIDED:
            break
    return found.verdict, n


def found_share(rng: Generator, effect: float, n: int) -> float:
    """How often the t-test of `n` seeds finds an effect (in sds), from draws of its two parts."""
    from scipy.special import stdtrit

    means = effect * np.sqrt(n) + rng.standard_normal(FRESH)
    t = means / np.sqrt(rng.chisquare(n - 1, FRESH) / (n - 1))
    return float(np.mean(np.abs(t) > stdtrit(n - 1, 1 - LEVEL / 2)))


def promises(rng: Generator, times: int, n: int, effect: float = 1.0) -> dict[str, float]:
    """What is promised from pilots of `n` seeds, and how it is kept.

    `detectable`: the share of pilots whose smallest detectable difference is found with a power of 0.8 by
    as many new seeds; `seeds`: the share whose number of seeds finds `effect` (in sds) so; `median`: of
    these numbers.
    """
    kept, enough, needed = 0, 0, []
    for _ in range(times):
        pilot = summary(rng.standard_normal(n).tolist())
        kept += found_share(rng, float(detectable(pilot) or 0), n) >= 0.8
        needed.append(seeds_needed(effect, pilot))
        enough += found_share(rng, effect, needed[-1]) >= 0.8
    return {
        "detectable": kept / times,
        "seeds": enough / times,
        "median": float(np.median(needed)),
    }


def seeds_needed(effect: float, pilot: Summary, comparisons: int = 1) -> int:
    """The number of seeds that shows a true difference of `effect` with a power of POWER.

    pilot  the differences of two or more other seeds, not all the same
    """
    assert pilot.sd is not None
    size, level = effect / sd_limit(pilot.sd, pilot.n), LEVEL / comparisons
    low, high = 1, 2
    while power(size, high, level) < POWER and high < MOST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(size, middle, level) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high
