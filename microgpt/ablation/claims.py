"""Judges a claim by the losses of a sweep.

Outcomes, by the paired 95 % interval. Supported: all of it is at `matters` or beyond. Refuted: all of it
falls short of `matters`, being equivalent or too small; opposite: moreover all of it lies on the other side
of 0. Otherwise: undecided with these seeds. What holds for all of several comparisons needs no correction;
what holds for any of them does: such intervals hold together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from microgpt.ablation.report.fit import Fit
from microgpt.ablation.statistics.summary import Summary, summary
from microgpt.ablation.statistics.verdict import Outcome, at_least, equal
from microgpt.protocol.arms import along_axis, one_arm
from microgpt.protocol.claims import All, Better, Claim, Compared, Equal, Optimum, PowerLaw

FALSE = {Outcome.REFUTED, Outcome.OPPOSITE}


@dataclass(frozen=True)
class Judged:
    """A verdict, with its reason in one sentence."""

    verdict: Outcome
    because: str


@dataclass(frozen=True)
class Evident:
    """An arm as seen by a claim: its losses by seed, and why it must not be ranked, if so."""

    name: str
    differs: Mapping[str, Any]
    losses: Mapping[int, float]
    unranked: str | None


@dataclass(frozen=True)
class Evidence:
    """The input of a claim."""

    arms: Sequence[Evident]
    baseline: Evident
    matters: float
    axis: str | None
    fit: Fit | None


@singledispatch
def judge(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict on a claim. Raises BadValue for an arm that does not exist."""
    raise NotImplementedError(type(claim).__name__)


@dataclass(frozen=True)
class Pair:
    """The difference `this - other` over their common seeds.

    `alone` has the interval for itself; `together` those of all comparisons of a claim hold at once.
    """

    this: Evident
    other: Evident
    alone: Summary
    together: Summary
    matters: float

    def told(self, difference: Summary, claimed: str) -> str:
        """The comparison in words, with one of the two intervals, beside what was claimed of it."""
        low, high = _signed(difference, 1)
        names = f"{self.this.name} minus {self.other.name} is {difference.mean:+.4f} nats per token"
        return f"{names} (95 % {low:+.4f} to {high:+.4f}), where {claimed} was claimed"


def compare(this: Evident, other: Evident, matters: float, comparisons: int) -> Pair | str:
    """One of `comparisons` comparisons of two arms, or why they cannot be compared."""
    for arm in (this, other):
        if arm.unranked:
            return f"{arm.name} is not ranked: {arm.unranked}"
    seeds = sorted(this.losses.keys() & other.losses.keys())
    if len(seeds) < 2:
        return f"{this.name} and {other.name} have {len(seeds)} seeds in common; two are needed"
    pairs = [this.losses[seed] - other.losses[seed] for seed in seeds]
    return Pair(this, other, summary(pairs), summary(pairs, comparisons), matters)


@judge.register
def _(claim: Compared, evidence: Evidence) -> Judged:
    """All must hold, which needs no correction; that any does not is enough, which needs it."""
    than, matters = claim.than, evidence.matters
    other = one_arm(evidence.arms, than, "ablation.claim.than") if than else evidence.baseline
    arms = [one_arm(evidence.arms, wanted, "ablation.claim.arms") for wanted in claim.arms]
    compared = [compare(arm, other, matters, len(arms)) for arm in arms]
    if problems := [one for one in compared if isinstance(one, str)]:
        return Judged(Outcome.UNDECIDED, "; ".join(problems))
    outcomes, told, claimed = [], [], _claimed(claim, matters)
    for one in compared:
        assert isinstance(one, Pair)
        outcome, shown = _outcome(claim, one.alone, matters), one.alone
        if outcome is not Outcome.SUPPORTED:
            outcome, shown = _outcome(claim, one.together, matters), one.together
        outcomes.append(outcome)
        told.append(one.told(shown, claimed))
    return Judged(together(outcomes), "; ".join(told))


def _claimed(claim: Claim, matters: float) -> str:
    """The differences for which a claim holds, in words."""
    if isinstance(claim, Equal):
        return f"{-matters:+g} to {matters:+g}"
    if isinstance(claim, Better):
        return f"{-matters:+g} or less" if matters else "less than 0"
    return f"{matters:+g} or more" if matters else "more than 0"


def _outcome(claim: Compared, difference: Summary, matters: float) -> Outcome:
    if isinstance(claim, Equal):
        return equal(*_signed(difference, 1), matters)
    return at_least(*_signed(difference, -1 if isinstance(claim, Better) else 1), matters)


@judge.register
def _(claim: Optimum, evidence: Evidence) -> Judged:
    """The intervals of all comparisons hold together, so the best arm need not be known beforehand.

    Refuted: each inner arm falls short of at least one end. Of a monotone curve, it does.
    """
    first, *inner, last = along_axis(evidence.arms, evidence.axis)
    known = evidence.matters, 2 * len(inner)
    pairs = [(compare(first, arm, *known), compare(last, arm, *known)) for arm in inner]
    flat = [one for pair in pairs for one in pair]
    if problems := [one for one in flat if isinstance(one, str)]:
        return Judged(Outcome.UNDECIDED, "; ".join(dict.fromkeys(problems)))
    told = [(a, b) for a, b in pairs if isinstance(a, Pair) and isinstance(b, Pair)]
    outcomes = [_inner(pair) for pair in told]
    best = max(told, key=lambda pair: min(one.together.mean for one in pair))
    claimed = _claimed(claim, evidence.matters)
    because = "; ".join(one.told(one.together, claimed) for one in best)
    if Outcome.SUPPORTED in outcomes:
        return Judged(Outcome.SUPPORTED, because)
    refuted = set(outcomes) == {Outcome.REFUTED}
    return Judged(Outcome.REFUTED if refuted else Outcome.UNDECIDED, because)


def _inner(pair: tuple[Pair, Pair]) -> Outcome:
    """Whether an inner arm beats both ends."""
    ends = {at_least(*_signed(one.together, 1), one.matters) for one in pair}
    if ends == {Outcome.SUPPORTED}:
        return Outcome.SUPPORTED
    return Outcome.REFUTED if ends & FALSE else Outcome.UNDECIDED


@judge.register
def _(claim: PowerLaw, evidence: Evidence) -> Judged:
    fit = evidence.fit
    if fit is None or fit.exponent.low is None or fit.exponent.high is None:
        return Judged(Outcome.UNDECIDED, "there is no fit with an interval")
    low, high = fit.exponent.low, fit.exponent.high
    inside, outside = claim.low <= low and high <= claim.high, high < claim.low or low > claim.high
    each = [Outcome.SUPPORTED if inside else Outcome.REFUTED if outside else Outcome.UNDECIDED]
    because = f"the exponent is {fit.exponent.mean:.4f} (95 % {low:.4f} to {high:.4f}), where "
    because += f"{claim.low:g} to {claim.high:g} was claimed"
    if claim.bend:
        opposite = {"flattens": "steepens", "steepens": "flattens"}[claim.bend]
        known = {claim.bend: Outcome.SUPPORTED, opposite: Outcome.OPPOSITE}
        each.append(known.get(fit.word, Outcome.UNDECIDED))
        because += f"; the law {fit.word}, where '{claim.bend}' was claimed (coefficient "
        because += f"{fit.bend.mean:+.4f}, 95 % {fit.bend.low:+.4f} to {fit.bend.high:+.4f})"
    return Judged(together(each), because)


@judge.register
def _(claim: All, evidence: Evidence) -> Judged:
    each = [judge(one, evidence) for one in claim.claims]
    told = [
        f"'{one}' is {found.verdict}: {found.because}" for one, found in zip(claim.claims, each)
    ]
    return Judged(together([found.verdict for found in each]), "; ".join(told))


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a conjunction: refuted if one part does not hold; opposite if all parts are."""
    found = set(outcomes)
    if len(found) == 1:
        return found.pop()
    return Outcome.REFUTED if found & FALSE else Outcome.UNDECIDED


def _signed(difference: Summary, sign: int) -> tuple[float, float]:
    """The interval of `sign * difference`."""
    assert difference.low is not None  # there are two seeds
    assert difference.high is not None
    ends = sorted((sign * difference.low, sign * difference.high))
    return ends[0], ends[1]
