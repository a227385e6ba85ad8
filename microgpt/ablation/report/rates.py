"""Which learning rate of a grid is an arm's best, and whether a sweep used it.

The best of a grid is a best only if the grid goes on past it on both sides. A rate at which a run
failed is never the best (its mean would be over the survivors), but it bounds the grid.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microgpt.ablation.records.sweep import Arm, Sweep
from microgpt.ablation.statistics.rates import best_rate, not_ranked
from microgpt.ablation.statistics.summary import Interval, Summary
from microgpt.protocol.section import FIGURES, RATE, Question, fits, scalar
from microgpt.run.identity import leaves


@dataclass(frozen=True)
class Grid:
    """The rates that were tried for one arm; `points` has None where a run did not finish."""

    name: str
    differs: Mapping[str, str]  # without the rate
    points: tuple[tuple[float, Summary | None], ...]  # by rate
    best: float | None
    edge: str | None  # which end the best rate is at, if one

    @property
    def flag(self) -> str | None:
        """Why the arm may not be ranked."""
        return not_ranked(self.best, self.edge)


def grids(sweep: Sweep, rate: str) -> list[Grid]:
    """The grid of each arm less the key `rate`, in the sweep's order."""
    groups: dict[tuple[tuple[str, str], ...], list[Arm]] = {}
    for arm in sweep.arms:
        rest = tuple((key, value) for key, value in arm.differs.items() if key != rate)
        groups.setdefault(rest, []).append(arm)
    return [_grid(dict(rest), rate, arms, sweep.interval) for rest, arms in groups.items()]


def _grid(differs: Mapping[str, str], rate: str, arms: Sequence[Arm], interval: Interval) -> Grid:
    tried = sorted((float(arm.differs[rate]), _mean(arm, interval)) for arm in arms)
    best, edge = best_rate((value, found.mean if found else None) for value, found in tried)
    name = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in differs.items())
    return Grid(name or "all", differs, tuple(tried), best, edge)


def _mean(arm: Arm, interval: Interval) -> Summary | None:
    losses = arm.losses()
    return interval(list(losses.values())) if set(losses) == arm.seeds else None


@dataclass(frozen=True)
class Tuning:
    """The sweep that chose the rates of another; `departs`: what else differs between the two."""

    experiment: str
    sweep: Sweep | None
    grids: tuple[Grid, ...]
    shared_seeds: tuple[int, ...]
    departs: Mapping[str, tuple[Any, Any]]  # key -> (tuned with, run with)

    def flag(self, arm: Arm, used: float) -> str | None:
        """Why `arm`, run at the rate `used`, may not be ranked."""
        if self.sweep is None:
            return f"not tuned: no sweep of {self.experiment} in the store"
        own = [g for g in self.grids if fits(arm.differs, g.differs)]
        if len(own) != 1:
            return f"not tuned: {self.experiment} has no such arm"
        if own[0].flag:
            return own[0].flag
        if self.sweep.figure == FIGURES["test"]:
            return f"tuned on the test part, by {self.experiment}"
        if self.shared_seeds:
            return f"tuned on seeds that it is judged by: {', '.join(map(str, self.shared_seeds))}"
        if not math.isclose(own[0].best or 0.0, used):
            return f"run at learning rate {used:g}, but {own[0].best:g} is the best"
        return None


def tuning(sweep: Sweep, asked: Question, found: Sweep | None) -> Tuning | None:
    """How the rates of `sweep` were chosen, `found` being the sweep that should say so."""
    if asked.tuning is None:
        return None
    if found is None:
        return Tuning(asked.tuning, None, (), (), {})
    shared = {run.seed for run in sweep.runs} & {run.seed for run in found.runs}
    varied = {RATE, "seed"} | {key for arm in sweep.arms for key in arm.differs}
    ours, theirs = compared(sweep.config), compared(found.config)
    departs = {
        key: (theirs.get(key), ours.get(key))
        for key in sorted(ours.keys() | theirs.keys())
        if key not in varied and theirs.get(key) != ours.get(key)
    }
    return Tuning(asked.tuning, found, tuple(grids(found, RATE)), tuple(sorted(shared)), departs)


def rate_used(sweep: Sweep, arm: Arm) -> float:
    """The peak learning rate of an arm's runs."""
    value = scalar(arm.differs.get(RATE, leaves(sweep.config)[RATE]))
    return float(str(value))


ASIDE = {
    *("paths", "tracking", "launcher", "progress", "resume", "skip", "experiment", "description"),
    *("hydra", "sampling"),
}


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of a configuration that its held-out losses may depend on."""
    return {key: v for key, v in leaves(config).items() if key.partition(".")[0] not in ASIDE}
