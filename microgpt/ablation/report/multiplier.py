"""Compute multipliers: how many times the steps of the baseline an arm takes to the same loss.

Equal loss is the higher of the two final losses, of mean curves of held-out loss over the seeds. The arm
that ended lower had reached it at an earlier step, by a straight line between two evaluations. Above 1 the
arm costs steps, below 1 it saves steps.
A run whose learning rate decays is worse on its way than a shorter run with a schedule of its own would be:
separately trained lengths would reach the loss in fewer steps, so their multiplier is further from 1.
The interval over seeds is the jackknife's, on the logarithm: Student's of Tukey's pseudo-values, each with
a seed left out of both arms. It draws nothing, so that every machine computes the same.
Sources: Hoffmann et al. (2022), arXiv 2203.15556, compare lengths of training with schedules of their own;
Tukey (1958), Bias and confidence in not-quite large samples, Annals of Mathematical Statistics 29(2), 614.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from microgpt.ablation.records.sweep import Arm, Run
from microgpt.ablation.statistics.summary import Interval, Summary, summary

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


def mean_curve(runs: Sequence[Run], interval: Interval = summary) -> list[tuple[int, Summary]]:
    """The steps at which all of some runs were evaluated, with their losses."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for row in run.evaluations:
            found.setdefault(int(row["step"]), []).append(row[CURVE])
    whole = {step: v for step, v in sorted(found.items()) if len(v) == len(runs)}
    return [(step, interval(values)) for step, values in whole.items()]


def multiplier(arm: Curve, baseline: Curve) -> Multiplier | None:
    """None if the higher of the final losses lies outside of the other curve."""
    if not arm or not baseline:
        return None
    loss = max(arm[-1][1].mean, baseline[-1][1].mean)
    steps = reached(arm, loss), reached(baseline, loss)
    return None if steps[0] is None or steps[1] is None else Multiplier(loss, steps[0], steps[1])


def spread(arm: Arm, base: Arm, comparisons: int) -> tuple[float, float] | None:
    """The 95 % interval of the multiplier over seeds; those of all `comparisons` hold together.

    None if the two have not the same seeds, two or more, or no multiplier without one of them.
    """
    seeds = sorted(run.seed for run in arm.finished)
    if len(seeds) < 2 or seeds != sorted(run.seed for run in base.finished):
        return None
    whole, *rest = (_logarithm(arm, base, left) for left in (None, *seeds))
    n, parts = len(seeds), [one for one in rest if one is not None]
    if whole is None or len(parts) < n:
        return None
    found = summary([n * whole - (n - 1) * one for one in parts], comparisons)
    assert found.low is not None  # there are two seeds
    assert found.high is not None
    return math.exp(found.low), math.exp(found.high)


def _logarithm(arm: Arm, base: Arm, left: int | None) -> float | None:
    """The logarithm of the multiplier without the seed `left`."""
    kept = ([run for run in one.finished if run.seed != left] for one in (arm, base))
    found = multiplier(*map(mean_curve, kept))
    return math.log(found.times) if found else None


def reached(curve: Curve, loss: float) -> float | None:
    """The first step at which the curve falls to `loss`; None if it never does."""
    for (before, above), (step, found) in pairwise(curve):
        if above.mean > loss >= found.mean:
            return before + (step - before) * (above.mean - loss) / (above.mean - found.mean)
    return None
