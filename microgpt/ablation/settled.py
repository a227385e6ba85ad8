"""How much the curves still changed at the end of training."""

import math
from typing import Any, NamedTuple

from microgpt.ablation.entries import digits
from microgpt.ablation.store import Arm, Sweep

CURVE = "val/loss"  # evaluated on the way, whichever part judges
LAST = 0.2  # the fraction of the steps, at least, in which a curve should be flat
ENDS = 0.1  # of the peak learning rate: below it, the schedule flattens any curve


def settled(sweep: Sweep, base: Arm) -> dict[str, Any] | None:
    """How much held-out losses, and differences from the baseline, fell over the last fifth or more.

    None if no run was evaluated before the end. Positive values mean that the loss fell. `share` is the
    fraction of the steps after the last evaluation in the first four fifths; `decays`: whether the learning
    rate ends near zero, so that the curves are flat whether or not a longer run would go on falling.
    """
    earlier = {arm.name: _earlier(arm) for arm in sweep.arms}
    last = {arm.name: arm.losses(CURVE) for arm in sweep.arms}
    if not any(earlier.values()):
        return None
    falls: dict[str, float] = {}  # rounded, so that the last bits do not decide between arms
    moves: dict[str, float] = {}
    for arm in sweep.arms:
        then, now = earlier[arm.name], last[arm.name]
        if then:
            falls[arm.name] = digits(math.fsum(then[s].loss - now[s] for s in then) / len(then))
        there = sorted(then.keys() & earlier[base.name].keys())
        if there and arm is not base:
            other, before = last[base.name], earlier[base.name]
            gaps = [(now[s] - other[s]) - (then[s].loss - before[s].loss) for s in there]
            moves[arm.name] = digits(math.fsum(gaps) / len(gaps))
    most = max(falls, key=lambda name: falls[name])
    points = [point for found in earlier.values() for point in found.values()]
    result: dict[str, Any] = {
        "share": digits(max(point.share for point in points)),
        "decays": any(_decays(arm) for arm in sweep.arms),
        "mean": digits(math.fsum(falls.values()) / len(falls)),
        "most": {"arm": most, "fell": falls[most]},
    }
    if moves:
        moved = max(moves, key=lambda name: abs(moves[name]))
        result["difference"] = {"arm": moved, "moved": moves[moved]}
    return result


class Point(NamedTuple):
    """An evaluation before the end: its loss, and the fraction of the steps that came after it."""

    loss: float
    share: float


def _earlier(arm: Arm) -> dict[int, Point]:
    """seed -> the last evaluation in the first four fifths of the steps."""
    found = {}
    for run in arm.finished:
        curve = [(row["step"], row[CURVE]) for row in run.rows if CURVE in row]
        early = [(step, loss) for step, loss in curve if step <= (1 - LAST) * curve[-1][0]]
        if early:
            step, loss = early[-1]
            found[run.seed] = Point(loss, 1 - step / curve[-1][0])
    return found


def _decays(arm: Arm) -> bool:
    """Whether the learning rate of a run ends near zero."""
    rates = [[row["lr"] for row in run.rows if "lr" in row] for run in arm.finished]
    return any(own[-1] < ENDS * max(own) for own in rates if own)
