"""Whether held-out loss still fell at the end of training: slopes over the last steps, with intervals.

Nothing is said where the learning rate ends near zero, since that flattens any curve: only runs of other
lengths, each with its own schedule, could tell.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.evidence.entries import digits, rounded
from microgpt.ablation.records.sweep import Arm, Run
from microgpt.ablation.report.multiplier import CURVE
from microgpt.ablation.statistics.summary import Interval, summary

LAST = 0.2  # the fraction of the steps, at least, over which a slope is taken
ENDS = 0.1  # of the peak learning rate: below it, the schedule flattens any curve


def flattened(
    arms: Sequence[Arm], base: Arm, interval: Interval = summary
) -> dict[str, Any] | None:
    """How much losses, and differences from the baseline, fell over the last fifth of the steps or more.

    None if no run was evaluated before. `share` is the fraction of the steps after the last evaluation
    in the first four fifths. The intervals of all arms hold together, and so do those of differences.
    """
    falls = {arm.name: _falls(arm) for arm in arms}
    if not any(falls.values()):
        return None
    if any(map(_decays, arms)):
        return {"decays": True}
    shares = [share for own in falls.values() for share, _ in own.values()]
    fell = {name: [fall for _, fall in own.values()] for name, own in falls.items() if own}
    other = falls[base.name]
    moved = {
        name: [own[seed][1] - other[seed][1] for seed in sorted(own.keys() & other.keys())]
        for name, own in falls.items()
        if name != base.name
    }
    return {
        "decays": False,
        "share": digits(max(shares)),
        "fell": _together(fell, interval),
        "moved": _together({name: found for name, found in moved.items() if found}, interval),
    }


def _together(found: Mapping[str, Sequence[float]], interval: Interval) -> dict[str, Any]:
    return {name: rounded(interval(values, len(found))) for name, values in found.items()}


def _falls(arm: Arm) -> dict[int, tuple[float, float]]:
    """seed -> the fraction of the steps over which, and by how much, its loss fell at the end."""
    found = {run.seed: _fall(run) for run in arm.finished}
    return {seed: fall for seed, fall in found.items() if fall}


def _fall(run: Run) -> tuple[float, float] | None:
    curve = [(row["step"], row[CURVE]) for row in run.evaluations]
    early = [(step, loss) for step, loss in curve if step <= (1 - LAST) * curve[-1][0]]
    if not early:
        return None
    step, loss = early[-1]
    return 1 - step / curve[-1][0], loss - curve[-1][1]


def _decays(arm: Arm) -> bool:
    """Whether the learning rate of a run ends near zero, compared with the evaluations before."""
    rates = [[row["lr"] for row in run.evaluations] for run in arm.finished]
    return any(own[-1] < ENDS * max(own) for own in rates if own)
