"""The paired difference of two arms."""

import math
from dataclasses import dataclass

from microgpt.ablation.claims.judging import Evidence, Evident
from microgpt.ablation.statistics.summary import Summary
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.protocol.claims import Better, Claim, Equal


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

    def told(self, difference: Summary, outcome: Outcome, claimed: str) -> str:
        """The comparison in words, with one of the two intervals, and whether it is as claimed."""
        low, high = signed(difference, 1)
        names = f"{self.this.name} minus {self.other.name} is {difference.mean:+.4f} nats per token"
        between = "no interval yet" if math.isinf(low) else f"95 % {low:+.4f} to {high:+.4f}"
        return f"{names} ({between}), where {claimed} was claimed: {outcome}"


def compare(this: Evident, other: Evident, evidence: Evidence, comparisons: int) -> Pair | str:
    """One of `comparisons` comparisons of two arms, or why they cannot be compared."""
    for arm in (this, other):
        if arm.unranked:
            return f"{arm.name} is not ranked ({arm.unranked})"
    seeds = sorted(this.losses.keys() & other.losses.keys())
    if len(seeds) < 2:
        return f"{this.name} and {other.name} have {len(seeds)} seeds in common; two are needed"
    pairs = [this.losses[seed] - other.losses[seed] for seed in seeds]
    alone, together = evidence.interval(pairs), evidence.interval(pairs, comparisons)
    return Pair(this, other, alone, together, evidence.matters)


def claimed_of(claim: Claim, matters: float) -> str:
    """The differences for which a claim holds, in words."""
    if isinstance(claim, Equal):
        return f"{-matters:+g} to {matters:+g}"
    if isinstance(claim, Better):
        return f"{-matters:+g} or less" if matters else "less than 0"
    return f"{matters:+g} or more" if matters else "more than 0"


def signed(difference: Summary, sign: int) -> tuple[float, float]:
    """The interval of `sign * difference`; all numbers as long as there is none."""
    if difference.low is None or difference.high is None:
        return -math.inf, math.inf
    ends = sorted((sign * difference.low, sign * difference.high))
    return ends[0], ends[1]
