"""Compute multipliers: how many times the steps of the baseline an arm takes to the same loss.

Equal loss is the higher of the two final losses, of mean curves of held-out loss over the seeds. The arm
that ended lower had reached it at an earlier step, by a straight line between two evaluations. Above 1 the
arm costs steps, below 1 it saves steps.
A run whose learning rate decays is worse on its way than a shorter run with a schedule of its own would be:
separately trained lengths would reach the loss in fewer steps, so their multiplier is further from 1.
Source: Hoffmann et al. (2022), arXiv 2203.15556, compare lengths of training with schedules of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from microgpt.ablation.records.sweep import Arm
from microgpt.ablation.statistics.summary import Summary, summary

CURVE = "val/loss"  # evaluated on the way, whichever part judges
Curve = Sequence[tuple[int, Summary]]  # (step, held-out loss)


@dataclass(frozen=True)
class Multiplier:
    """The steps after which an arm and its baseline had the loss `loss`, on average over seeds."""

    loss: float
    arm: float
    baseline: float

    @property
    def times(self) -> float:
        return self.arm / self.baseline


def mean_curve(arm: Arm) -> list[tuple[int, Summary]]:
    """The steps at which all finished runs of an arm were evaluated, with their losses."""
    found: dict[int, list[float]] = {}
    for run in arm.finished:
        for row in run.evaluations:
            found.setdefault(int(row["step"]), []).append(row[CURVE])
    whole = {step: v for step, v in sorted(found.items()) if len(v) == len(arm.finished)}
    return [(step, summary(values)) for step, values in whole.items()]


def multiplier(arm: Curve, baseline: Curve) -> Multiplier | None:
    """None if the higher of the final losses lies outside of the other curve."""
    if not arm or not baseline:
        return None
    loss = max(arm[-1][1].mean, baseline[-1][1].mean)
    steps = reached(arm, loss), reached(baseline, loss)
    return None if steps[0] is None or steps[1] is None else Multiplier(loss, steps[0], steps[1])


def reached(curve: Curve, loss: float) -> float | None:
    """The first step at which the curve falls to `loss`; None if it never does."""
    for (before, above), (step, found) in pairwise(curve):
        if above.mean > loss >= found.mean:
            return before + (step - before) * (above.mean - loss) / (above.mean - found.mean)
    return None
