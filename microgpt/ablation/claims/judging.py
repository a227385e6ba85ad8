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

from microgpt.ablation.statistics.power_law import Fit
from microgpt.ablation.statistics.summary import Interval, summary
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.protocol.arms import one_arm
from microgpt.protocol.claims import Claim, claim
from microgpt.protocol.section import Question
from microgpt.protocol.stopping import INTERVALS

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
    interval: Interval = summary


@singledispatch
def judge(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict on a claim. Raises BadValue for an arm that does not exist."""
    raise NotImplementedError(type(claim).__name__)


def judged(asked: Question, arms: Sequence[Evident], fit: Fit | None = None) -> Judged | None:
    """The verdict on the claim of a question; None without one. Raises BadValue."""
    if asked.claim is None:
        return None
    base = one_arm(arms, asked.baseline, "ablation.baseline")
    interval = INTERVALS[asked.stopping]
    evidence = Evidence(arms, base, asked.matters, asked.axis, fit, interval)
    return judge(claim(asked.claim), evidence)


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a conjunction: refuted if one part does not hold; opposite if all parts are."""
    found = set(outcomes)
    if len(found) == 1:
        return found.pop()
    return Outcome.REFUTED if found & FALSE else Outcome.UNDECIDED
