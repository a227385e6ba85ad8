"""How much the curves still changed at the end of training."""

import math
from typing import Any

from microgpt.ablation.entries import digits
from microgpt.ablation.store import Arm, Sweep

LAST = 0.2  # the fraction of the steps in which a curve should be flat


def settled(sweep: Sweep, base: Arm) -> dict[str, Any] | None:
    """How much held-out losses, and differences from the baseline, fell over the last fifth.

    None if no run was evaluated before the end. Positive values mean that the loss fell.
    """
    earlier = {arm.name: _earlier(arm) for arm in sweep.arms}
    if not any(earlier.values()):
        return None
    falls: dict[str, float] = {}  # rounded, so that the last bits do not decide between arms
    moves: dict[str, float] = {}
    for arm in sweep.arms:
        then, now = earlier[arm.name], arm.losses()
        if then:
            falls[arm.name] = digits(math.fsum(then[s] - now[s] for s in then) / len(then))
        there = sorted(then.keys() & earlier[base.name].keys())
        if there and arm is not base:
            other = base.losses()
            gaps = [(now[s] - other[s]) - (then[s] - earlier[base.name][s]) for s in there]
            moves[arm.name] = digits(math.fsum(gaps) / len(gaps))
    most = max(falls, key=lambda name: falls[name])
    result: dict[str, Any] = {
        "share": LAST,
        "mean": digits(math.fsum(falls.values()) / len(falls)),
        "most": {"arm": most, "fell": falls[most]},
    }
    if moves:
        moved = max(moves, key=lambda name: abs(moves[name]))
        result["difference"] = {"arm": moved, "moved": moves[moved]}
    return result


def _earlier(arm: Arm) -> dict[int, float]:
    """seed -> held-out loss at the last evaluation in the first four fifths of the steps."""
    found = {}
    for run in arm.finished:
        curve = [(row["step"], row["val/loss"]) for row in run.rows if "val/loss" in row]
        early = [loss for step, loss in curve if step <= (1 - LAST) * curve[-1][0]]
        if early:
            found[run.seed] = early[-1]
    return found
