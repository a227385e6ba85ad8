"""The rounds of a sweep: all jobs at once, or seeds added until its question is decided."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from microgpt.ablation.claims import Evident, judged
from microgpt.ablation.statistics.rates import best_rate, not_ranked
from microgpt.ablation.statistics.verdict import Outcome, Verdict, verdict
from microgpt.console import out
from microgpt.protocol.arms import Planned, planned
from microgpt.protocol.section import Question
from microgpt.protocol.stopping import INTERVALS, looks
from microgpt.run.sweep import SweepFolder
from microgpt.sweep.arms import arms_of
from microgpt.sweep.plan import Job


@dataclass(frozen=True)
class Rounds:
    """The jobs of each round of a sweep, of which those of the rounds before are a part.

    looks  whether figures decide if there is a next round: then a run that only a store has does not do
    """

    of: Callable[[SweepFolder], Iterator[Sequence[Job]]]
    looks: bool = False


def at_once(jobs: Sequence[Job]) -> Rounds:
    """One round with all jobs."""
    return Rounds(lambda sweep: iter([jobs]))


def until_decided(asked: Question, jobs: Sequence[Job]) -> Rounds:
    """Seeds are added until the question is decided, or all are spent; each look is told."""

    def of(sweep: SweepFolder) -> Iterator[Sequence[Job]]:
        seeds = looks(asked.stopping, [job.seed for job in jobs])
        for own in seeds:
            yield [job for job in jobs if job.seed in own]
            is_decided, told = answer(asked, sweep.jobs, losses_of(sweep, asked.figure))
            out.print(f"after {len(own)} of at most {len(seeds[-1])} seeds: {told}", markup=False)
            if is_decided:
                return

    return Rounds(of, looks=True)


def losses_of(sweep: SweepFolder, figure: str) -> dict[str, float]:
    """The last value of a metric of each job that has it, by the name of its run."""
    rows = {job["run"]: sweep.run(job).metrics() for job in sweep.jobs}
    # A job that was refused has none.
    return {name: own[-1][figure] for name, own in rows.items() if own and figure in own[-1]}


def answer(
    asked: Question, jobs: Sequence[Mapping[str, Any]], losses: Mapping[str, float]
) -> tuple[bool, str]:
    """Whether losses, by the names of the jobs' runs, decide the question; and the answer so far."""
    arms = planned(jobs)
    found: dict[str, dict[int, float]] = {arm.name: {} for arm in arms}
    for job in jobs:
        if job["run"] in losses:
            found[job["arm"]][job["seed"]] = losses[job["run"]]
    edges = at_edges(arms, found, asked.axis) if asked.of_rates else {}
    seen = [
        Evident(
            arm.name,
            arm.differs,
            found[arm.name],
            _unranked(arm.seeds, found[arm.name]) or edges.get(arm.name),
        )
        for arm in arms
    ]
    if said := judged(asked, seen):
        return said.verdict is not Outcome.UNDECIDED, str(said.verdict)
    compared = arms_of(jobs, losses, asked.baseline, INTERVALS[asked.stopping])
    words = {
        arm.name: verdict(arm.difference.low, arm.difference.high, asked.matters)
        for arm in compared
        if arm.difference
    }
    left = [name for name, word in words.items() if word is Verdict.UNDECIDED]
    return bool(words) and not left, f"undecided for {len(left)} arms" if left else "decided"


def at_edges(
    arms: Sequence[Planned], losses: Mapping[str, Mapping[int, float]], axis: str | None
) -> dict[str, str]:
    """Why arms may not be ranked, by name: of several grids of rates, whose best rate is at an end."""
    grids: dict[str, list[Planned]] = {}
    for arm in arms:
        rest = {key: value for key, value in arm.differs.items() if key != axis}
        grids.setdefault(str(rest), []).append(arm)
    found: dict[str, str] = {}
    for grid in grids.values() if len(grids) > 1 else ():
        tried = [(float(arm.differs[str(axis)]), _mean(arm, losses[arm.name])) for arm in grid]
        if why := not_ranked(*best_rate(tried)):
            found |= dict.fromkeys((arm.name for arm in grid), why)
    return found


def _mean(arm: Planned, losses: Mapping[int, float]) -> float | None:
    return fmean(losses.values()) if losses.keys() == {*arm.seeds} else None


def _unranked(seeds: Sequence[int], losses: Mapping[int, float]) -> str | None:
    missing = len(seeds) - len(losses)
    return f"{missing} of {len(seeds)} runs have no result" if missing else None
