"""The arms of a sweep when it ends: means over seeds, and paired differences from the baseline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from microgpt.ablation.statistics.summary import Interval, Summary, summary
from microgpt.core.check import BadValue
from microgpt.protocol.arms import one_arm, planned

MOST = 20  # arms shown


@dataclass(frozen=True)
class Arm:
    """The jobs that differ only in the seed.

    A difference has an interval that holds together with those of the other arms. An arm of which a job
    is missing is compared with nothing, as in a report: what is left may be what survived.
    """

    name: str
    jobs: int
    loss: Summary  # held-out, of the jobs that have one
    difference: Summary | None
    is_baseline: bool

    @property
    def whole(self) -> bool:
        """Whether every job has a loss."""
        return self.loss.n == self.jobs


def arms_of(
    jobs: Sequence[Mapping[str, Any]],
    losses: Mapping[str, float],
    baseline: Mapping[str, Any] | None,
    interval: Interval = summary,
) -> list[Arm]:
    """The arms that have a loss, the lowest mean first.

    jobs      the facts of each job
    losses    the held-out loss of each finished job, by the name of its run
    baseline  the keys and values of the arm that the others are compared with, if there is one
    """
    members: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        members.setdefault(job["arm"], []).append(job)
    seeds = {
        name: {job["seed"]: losses[job["run"]] for job in own if job["run"] in losses}
        for name, own in members.items()
    }
    base = None if baseline is None else _named(jobs, baseline)
    ranked = [name for name, own in members.items() if len(seeds[name]) == len(own)]
    compared = [name for name in ranked if base in ranked and name != base]
    pairs = {name: _pairs(seeds[name], seeds[str(base)]) for name in compared}
    comparisons = sum(len(found) > 1 for found in pairs.values()) or 1
    told = {name: interval(found, comparisons) for name, found in pairs.items() if found}
    arms = [
        Arm(name, len(own), interval([*seeds[name].values()]), told.get(name), name == base)
        for name, own in members.items()
        if seeds[name]
    ]
    return sorted(arms, key=lambda arm: (not arm.whole, arm.loss.mean))


def _named(jobs: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any]) -> str | None:
    """The name of the arm with these values; None if no one arm has them."""
    try:
        return one_arm(planned(jobs), wanted, "ablation.baseline").name
    except BadValue:
        return None


def _pairs(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[float]:
    """The differences at each common seed."""
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def table_of(arms: Sequence[Arm]) -> Table:
    """The arms as a table."""
    compared = any(arm.is_baseline for arm in arms)
    table = Table(box=None)
    table.add_column("arm")  # the one column that is cut on a narrow terminal
    for heading in ("runs", "held-out", "95 %", *(("difference", "95 %") if compared else ())):
        table.add_column(heading, no_wrap=True)
    for arm in arms[:MOST]:
        name = Text(arm.name, no_wrap=True, overflow="ellipsis")
        table.add_row(name, *map(Text, _cells(arm, compared)))
    if len(arms) > MOST:
        table.add_row(f"... {len(arms) - MOST} more")
    return table


def _cells(arm: Arm, compared: bool) -> Iterator[str]:
    yield str(arm.jobs) if arm.whole else f"{arm.loss.n} of {arm.jobs}"
    yield f"{arm.loss.mean:.4f}"
    yield _interval(arm.loss, ".4f")
    if arm.is_baseline:
        yield "baseline"
    elif compared and arm.difference:
        yield f"{arm.difference.mean:+.4f}"
        yield _interval(arm.difference, "+.4f")


def _interval(of: Summary, form: str) -> str:
    return "" if of.low is None else f"[{of.low:{form}}, {of.high:{form}}]"
