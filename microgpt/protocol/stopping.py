"""When a sweep has enough seeds, and which intervals that leaves valid.

fixed        all of its seeds are trained
sequential   they are trained in increasing order, more and more, until the claim is not undecided (without
             a claim, until no arm is) or all are spent; its intervals hold at any time
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from microgpt.ablation.statistics.anytime import anytime, counts
from microgpt.ablation.statistics.summary import Interval, summary
from microgpt.run.sweep import identity_of

FIXED, SEQUENTIAL = "fixed", "sequential"
INTERVALS: dict[str, Interval] = {FIXED: summary, SEQUENTIAL: anytime}


def stopping_of(section: Mapping[str, Any] | None) -> str:
    """When a sweep has enough seeds, by its `ablation` section, if it has one."""
    return str((section or {}).get("stopping") or FIXED)


def interval_of(section: Mapping[str, Any] | None) -> Interval:
    """The interval of a mean over seeds, by an `ablation` section, if there is one."""
    return INTERVALS[stopping_of(section)]


def looks(stopping: str, seeds: Iterable[int]) -> list[list[int]]:
    """The seeds that are there at each look: those of the look before, and more."""
    ordered = sorted({*seeds})
    if stopping == FIXED:
        return [ordered]
    return [ordered[:n] for n in counts(len(ordered))]


def begins(stopping: str, jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The signature and the source of a sweep, from its first look on, however far its seeds go."""
    first = looks(stopping, [job["seed"] for job in jobs])[0]
    kind = "" if stopping == FIXED else stopping
    return identity_of([job for job in jobs if job["seed"] in first], kind)
