"""What an interval of a difference in loss says, in words of which exactly one holds.

`matters` is the smallest difference that would matter. Of an arm against its baseline:

    interval                                     word
    beyond `matters`, on one side of 0           better (worse) by what matters
    between 0 and `matters`                      better (worse), less than what matters
    excludes 0, `matters` lies inside            better (worse), of undecided size
    contains 0, inside (-matters, matters)       equivalent within what matters
    anything else                                undecided

If the interval holds the true difference with 95 %, a word is false in at most 5 % of all cases.
Source: Lakens (2017), Equivalence tests, Social Psychological and Personality Science 8(4), 355-362.
"""

from enum import StrEnum
from typing import Literal


class Verdict(StrEnum):
    """The word for an arm against its baseline."""

    BETTER = "better by what matters"
    BETTER_LESS = "better, less than what matters"
    BETTER_SOME = "better, of undecided size"
    WORSE = "worse by what matters"
    WORSE_LESS = "worse, less than what matters"
    WORSE_SOME = "worse, of undecided size"
    EQUIVALENT = "equivalent within what matters"
    UNDECIDED = "undecided"

    @property
    def direction(self) -> Literal["better", "worse"] | None:
        """The side of 0 on which the whole interval lies; None if it contains 0."""
        if self.startswith("better"):
            return "better"
        return "worse" if self.startswith("worse") else None

    @property
    def small(self) -> bool:
        """Whether the whole interval is inside (-matters, matters)."""
        return self in (Verdict.EQUIVALENT, Verdict.BETTER_LESS, Verdict.WORSE_LESS)

    @property
    def large(self) -> bool:
        """Whether the whole interval is beyond `matters`."""
        return self in (Verdict.BETTER, Verdict.WORSE)

    def is_answer(self) -> bool:
        """Whether it says better, worse or equivalent, of whatever size."""
        return self is not Verdict.UNDECIDED

    def contradicts(self, other: "Verdict") -> bool:
        """Whether no difference fits both."""
        opposite = self.direction and other.direction and self.direction != other.direction
        return bool(opposite or (self.small and other.large) or (self.large and other.small))


class Outcome(StrEnum):
    """The word for a claim."""

    SUPPORTED = "supported"
    OPPOSITE = "opposite"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


def verdict(low: float | None, high: float | None, matters: float) -> Verdict:
    """The word for an arm whose difference from the baseline lies in [low, high]; None: not known yet."""
    if low is None or high is None:
        return Verdict.UNDECIDED
    if high < 0:
        mirrored = _above(-high, -low, matters)
        return {
            Verdict.WORSE: Verdict.BETTER,
            Verdict.WORSE_LESS: Verdict.BETTER_LESS,
            Verdict.WORSE_SOME: Verdict.BETTER_SOME,
        }[mirrored]
    if low > 0:
        return _above(low, high, matters)
    return Verdict.EQUIVALENT if _inside(low, high, matters) else Verdict.UNDECIDED


def word(low: float | None, high: float | None, matters: float) -> str:
    """The word in a table: undecided without an interval; only a direction if any difference matters."""
    found = verdict(low, high, matters)
    return found if matters else found.direction or Verdict.UNDECIDED


def _above(low: float, high: float, matters: float) -> Verdict:
    if low >= matters:
        return Verdict.WORSE
    return Verdict.WORSE_LESS if high < matters else Verdict.WORSE_SOME


def _inside(low: float, high: float, matters: float) -> bool:
    return -matters < low and high < matters


def at_least(low: float, high: float, matters: float) -> Outcome:
    """The word for the claim that a difference is `matters` or more.

    Refuted if the whole interval is below `matters`; opposite if moreover all of it is below 0, and not
    all of it too close to 0 to matter. A claim that it is -matters or less is `at_least(-high, -low)`.
    """
    if low > 0 and low >= matters:
        return Outcome.SUPPORTED
    if high < 0 and low <= -matters:
        return Outcome.OPPOSITE
    return Outcome.REFUTED if high < matters else Outcome.UNDECIDED


def equal(low: float, high: float, matters: float) -> Outcome:
    """The word for the claim that a difference is smaller than `matters`, in whichever direction."""
    if _inside(low, high, matters):
        return Outcome.SUPPORTED
    beyond = at_least(low, high, matters), at_least(-high, -low, matters)
    return Outcome.REFUTED if Outcome.SUPPORTED in beyond else Outcome.UNDECIDED
