"""Trains pairs of runs until it is known which arm is better, or that they are equivalent."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from typing import Any

from rich.markup import escape

from microgpt.ablation.judge.arms import Pair
from microgpt.ablation.statistics.anytime import counts, sequential
from microgpt.ablation.statistics.summary import Summary
from microgpt.ablation.statistics.verdict import Verdict
from microgpt.console import out
from microgpt.protocol.stopping import FIXED, SEQUENTIAL
from microgpt.sweep.asked import asked_of
from microgpt.sweep.grow import Growing, JobFailed, growing
from microgpt.terminal import OK, RUN_FAILED, complain

EQUIVALENT, WORSE, UNDECIDED = 10, 11, 12  # exit codes, beside OK for better
CODES = {"better": OK, "equivalent": EQUIVALENT, "worse": WORSE, "undecided": UNDECIDED}


@dataclass(frozen=True)
class Judgement:
    """The result."""

    pair: Pair
    matters: float
    found: Summary
    word: Verdict
    losses: list[tuple[float, float]]  # base and candidate, by pair
    sweep: str

    @property
    def answer(self) -> str:
        """`better`, `worse`, `equivalent` or `undecided`."""
        return "equivalent" if self.word.small else self.word.direction or "undecided"

    @property
    def facts(self) -> dict[str, Any]:
        """The result as plain values; the ends of an interval are None as long as there is none."""
        arms = {
            arm.role: {"arm": arm.name, "first_seed": arm.first, "losses": list(losses)}
            for arm, losses in zip((self.pair.base, self.pair.candidate), zip(*self.losses))
        }
        return {
            "answer": self.answer,
            "word": str(self.word),
            "pairs": self.found.n,
            "difference": self.found.mean,
            "low": self.found.low,
            "high": self.found.high,
            "sd": self.found.sd,
            "metric": self.pair.metric,
            "documents": self.pair.documents,
            "matters": self.matters,
            "sweep": self.sweep,
            **arms,
        }


def judge(pair: Pair, matters: float, most: int, workers: int | None, as_json: bool) -> int:
    """Judges a pair, prints each look and the result; returns an exit code. Raises ConfigError."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        try:
            done = _judged(pair, matters, most, workers, quiet=as_json)
        except JobFailed as error:
            complain(str(error))
            return RUN_FAILED
        except KeyboardInterrupt:
            out.print("stopped; go on with the same command")
            raise
    if as_json:
        print(json.dumps(done.facts, indent=1))
    return CODES[done.answer]


def _judged(pair: Pair, matters: float, most: int, workers: int | None, quiet: bool) -> Judgement:
    """Raises ConfigError, and JobFailed if a run has no loss."""
    tell: Callable[[str], None] = _say_nothing if quiet else out.print
    tell(_heading(pair, matters, most))
    losses: list[tuple[float, float]] = []

    def differences(n: int) -> list[float]:
        with nullcontext() if quiet or not out.is_terminal else out.status(f"{n} pairs of runs"):
            losses[:] = _losses(pair, grown, n)
        return [candidate - base for base, candidate in losses]

    first, facts = pair.jobs(next(counts(most))), _facts(pair, matters, most)
    with growing(facts, SEQUENTIAL, first, workers) as grown:
        for found, word in sequential(differences, matters, most):
            tell(f"{found.n:>5}  {found.mean:>+10.4f}  {_interval(found):<20}  {word}")
        done = Judgement(pair, matters, found, word, losses, grown.sweep.path.name)
        grown.sweep.update(judged=done.facts)
    difference = f"{found.mean:+.4f}, 95 % {_interval(found)}"
    closer = "" if str(word) == done.answer else f": {word}"
    tell(f"[bold]{done.answer}[/]: the candidate's loss less the base's is {difference}{closer}")
    if grown.look:
        tell(f"look   {grown.look}")
    return done


def _say_nothing(text: str) -> None:
    """Prints nothing."""


def _losses(pair: Pair, grown: Growing, n: int) -> list[tuple[float, float]]:
    """The losses of base and candidate in the first n pairs, which are trained where they are missing."""
    jobs = pair.jobs(n)
    grown.train(jobs)
    found = [grown.metrics(job)[pair.metric] for job in jobs]
    return list(zip(found[::2], found[1::2]))


def _heading(pair: Pair, matters: float, most: int) -> str:
    arms = [
        f"{arm.role:<9}  {arm.name}, seeds from {arm.first} on"
        for arm in (pair.base, pair.candidate)
    ]
    judged = f"judged by {pair.metric} on {pair.documents:,} documents; {matters:g} nats per token matter; "
    judged += f"at most {most} pairs of runs"
    return escape("\n".join([*arms, judged, "pairs  difference  95 % at any time"]))


def _interval(found: Summary) -> str:
    if found.low is None or found.high is None:
        return "not yet"
    return escape(f"[{found.low:+.4f}, {found.high:+.4f}]")


def _facts(pair: Pair, matters: float, most: int) -> dict[str, Any]:
    """What the sweep's record says."""
    base, candidate = pair.base, pair.candidate
    section = _section(pair, matters)
    seeds = [str(arm.first + i) for i in range(most) for arm in (base, candidate)]
    return {
        "experiment": None,
        "name": f"judge {candidate.name}",
        "description": f"{candidate.name} against {base.name}",
        "overrides": [],
        "grid": {**pair.values, "seed": list(dict.fromkeys(seeds))},
        "ablation": section,
        "asked": asked_of(section, pair.jobs(most), base.config) if pair.is_paired else None,
        "config": base.config,
    }


def _section(pair: Pair, matters: float) -> dict[str, Any]:
    """The question, as an experiment's file would ask it; only arms with the same seeds are a sequence."""
    return {
        "question": f"Is {pair.candidate.name} better than {pair.base.name}?",
        "source": "none named",
        "expectation": "none written down before the run",
        "baseline": dict(pair.base.differs),
        "matters": matters,
        "part": "test" if pair.metric == "test/loss" else "validation",
        "stopping": SEQUENTIAL if pair.is_paired else FIXED,
    }
