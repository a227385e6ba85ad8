"""Computes the content of a sweep's lock, and thereby every number of its report."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.claims import Evident, Judged, judged
from microgpt.ablation.evidence.entries import (
    data_entry,
    digits,
    fit_entry,
    grid_entry,
    rounded,
    run_entry,
    sweep_entry,
    tagged,
    tuning_entry,
)
from microgpt.ablation.evidence.history import protocol_entry
from microgpt.ablation.evidence.lock import SCHEMA, neutral
from microgpt.ablation.records.sweep import Arm, Sweep
from microgpt.ablation.report.beside import beside
from microgpt.ablation.report.rates import Grid, Tuning, grids, rate_used
from microgpt.ablation.report.splits import Splits
from microgpt.ablation.statistics.power import detectable
from microgpt.ablation.statistics.power_law import SIZES, Fit, power_law
from microgpt.ablation.statistics.summary import Summary, p_value
from microgpt.ablation.statistics.verdict import Outcome, Verdict, word
from microgpt.core.check import BadValue
from microgpt.protocol.arms import one_arm
from microgpt.protocol.section import Question, fits, question
from microgpt.protocol.stopping import looks


def analyse(sweep: Sweep, tuned: Tuning | None) -> dict[str, Any]:
    """The lock of a sweep. Raises BadValue where the sweep cannot answer its question."""
    asked = asked_by(sweep)
    check(sweep)
    own = grids(sweep, str(asked.axis)) if asked.of_rates else []
    base = one_arm(sweep.arms, asked.baseline, "ablation.baseline")
    splits = Splits(sweep.documents, sweep.trust)
    flags = {
        arm.name: _flag(sweep, arm, own, tuned) or _unlike(sweep, arm, base, splits)
        for arm in sweep.arms
    }
    fit = _fit(sweep, flags) if asked.fit else None
    found = _judge(sweep, asked, flags, fit)
    rows = [
        row | {"tokens": _tokens(arm, splits)}
        for arm, row in zip(sweep.arms, table(sweep, flags, base, asked.matters), strict=True)
    ]
    finished = [run for run in sweep.runs if run.status == "finished"]
    return {
        "schema": SCHEMA,
        "experiment": sweep.experiment or sweep.name,
        "description": sweep.description,
        "sweep": sweep_entry(sweep),
        "ablation": dict(sweep.ablation) if sweep.ablation else None,
        "protocol": protocol_entry(sweep, base.name),
        "verdict": found.verdict if found else None,
        "because": found.because if found else None,
        "baseline": base.name,
        "figure": sweep.figure,
        "table": rows,
        **_stopped(sweep, asked, flags, base),
        **beside(sweep, base, rows, splits, asked.matters),
        "rates": [grid_entry(one) for one in own] or None,
        "tuning": tuning_entry(tuned),
        "fit": fit_entry(fit, _sizes(sweep, flags)) if fit else None,
        "config": neutral(sweep.config),
        "data": data_entry(finished[0]),
        "fingerprint": tagged(finished[0], "fingerprint."),
        "source_files": {
            run.tags["source"]: dict(run.source_files) for run in finished if run.source_files
        },
        "runs": [run_entry(sweep, run, tagged(finished[0], "fingerprint.")) for run in sweep.runs],
    }


def asked_by(sweep: Sweep) -> Question:
    """The sweep's question; without an `ablation` section, the first arm is the baseline of no claim."""
    if sweep.ablation is not None:
        return question(sweep.ablation)
    return Question(
        question=sweep.description or f"What does {sweep.name} change?",
        source="none named",
        expectation="none written down before the run",
        baseline=sweep.arms[0].differs,
        matters=0.0,
    )


def check(sweep: Sweep) -> None:
    """Raises BadValue if the sweep has nothing to report."""
    finished = [run for run in sweep.runs if run.status == "finished"]
    if not finished:
        problem = f"none of its {len(sweep.runs)} runs has finished"
        raise BadValue("sweep", sweep.name, problem)
    for metric in (sweep.figure, bits(sweep.figure)):
        without = [run.name for run in finished if metric not in run.metrics]
        if without:
            problem = f"{len(without)} of {len(finished)} finished runs have no {metric}"
            needed = "trainer.eval_documents" if "val/" in metric else "data.test_fraction"
            problem += f" ({without[0]}, ...); it takes {needed} above 0"
            raise BadValue("sweep", sweep.name, problem)


def bits(figure: str) -> str:
    """The metric in bits per character of the one in nats per token."""
    return figure.replace("/loss", "/bpc")


def _flag(sweep: Sweep, arm: Arm, own: Sequence[Grid], tuned: Tuning | None) -> str | None:
    """Why an arm must not be ranked, if so."""
    if not arm.finished:
        return "no run finished"
    if lost := [run for run in arm.runs if run.status == "failed"]:
        return f"{len(lost)} of {len(arm.runs)} runs failed: the rest are survivors"
    if (
        len(own) > 1
    ):  # the arms of one grid are its rates, which may be compared wherever the best lies
        for grid in own:
            if grid.flag and fits(arm.differs, grid.differs):
                return grid.flag
    return tuned.flag(arm, rate_used(sweep, arm)) if tuned else None


def _unlike(sweep: Sweep, arm: Arm, base: Arm, splits: Splits) -> str | None:
    """Why an arm's losses cannot be compared with those of the baseline, if so."""
    judged = {
        splits.judged_by(run.config, sweep.figure) for one in (arm, base) for run in one.finished
    }
    return "judged by other held-out tokens than the baseline" if len(judged) > 1 else None


def table(
    sweep: Sweep, flags: Mapping[str, str | None], base: Arm, matters: float
) -> list[dict[str, Any]]:
    """A row per arm. Only arms that may be ranked are compared with the baseline.

    The intervals of all differences hold together.
    """
    ranked = [] if flags[base.name] else [arm for arm in sweep.arms if not flags[arm.name]]
    pairs = {arm.name: _pairs(arm, base) for arm in ranked if arm is not base}
    comparisons = sum(len(found) > 1 for found in pairs.values())
    told = {name: sweep.interval(found, comparisons or 1) for name, found in pairs.items() if found}
    return [
        _row(sweep, arm, flags[arm.name], told.get(arm.name), comparisons)
        | {"word": _word(arm, base, flags, told, matters)}
        for arm in sweep.arms
    ]


def _pairs(arm: Arm, base: Arm) -> list[float]:
    """arm - base at each of their common seeds."""
    ours, theirs = arm.losses(), base.losses()
    return [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]


def _word(
    arm: Arm,
    base: Arm,
    flags: Mapping[str, str | None],
    told: Mapping[str, Summary],
    matters: float,
) -> str:
    if flags[arm.name]:
        return "not ranked"
    if arm is base:
        return "baseline"
    if flags[base.name]:
        return "baseline not ranked"
    if arm.name not in told:
        return "no seed in common"
    return word(told[arm.name].low, told[arm.name].high, matters)


def _row(
    sweep: Sweep, arm: Arm, flag: str | None, difference: Summary | None, comparisons: int
) -> dict[str, Any]:
    finished = arm.finished
    sizes = {run.tags.get("n_params") for run in finished}
    row: dict[str, Any] = {
        "arm": arm.name,
        "differs": dict(arm.differs),
        "finished": len(finished),
        "unfinished": len(arm.runs) - len(finished),
        "loss": _numbers(sweep, arm.losses()),
        "bpc": _numbers(sweep, arm.losses(bits(arm.figure))),
        "difference": None,
        "n_params": int(str(sizes.pop())) if len(sizes) == 1 else None,
        "flag": flag,
    }
    if difference:
        row["difference"] = rounded(difference) | {"p": None, "detectable": None}
        if not sweep.is_sequence:  # both are of a number of seeds that was fixed beforehand
            row["difference"] |= {
                "p": digits(p_value(difference, comparisons)),
                "detectable": digits(detectable(difference, comparisons)),
            }
    return row


def _tokens(arm: Arm, splits: Splits) -> int | None:
    """The mean over its finished runs."""
    counts = [splits.tokens_trained(run.config) for run in arm.finished]
    known = [count for count in counts if count is not None]
    return round(sum(known) / len(known)) if known else None


def _numbers(sweep: Sweep, by_seed: Mapping[int, float]) -> dict[str, Any] | None:
    return rounded(sweep.interval(list(by_seed.values()))) if by_seed else None


def _judge(
    sweep: Sweep, asked: Question, flags: Mapping[str, str | None], fit: Fit | None
) -> Judged | None:
    arms = [Evident(arm.name, arm.differs, arm.losses(), flags[arm.name]) for arm in sweep.arms]
    found = judged(asked, arms, fit)
    missing = len(sweep.unfinished)
    if found and missing and found.verdict is not Outcome.UNDECIDED:
        return Judged(found.verdict, f"{found.because} ({missing} runs did not finish)")
    return found


def _stopped(
    sweep: Sweep, asked: Question, flags: Mapping[str, str | None], base: Arm
) -> dict[str, Any]:
    """What each look at a sequence of seeds said; nothing for a fixed number of them."""
    if not sweep.is_sequence:
        return {}
    there = {run.seed for run in sweep.runs}
    planned = sweep.protocol["content"]["seeds"] if sweep.protocol else sorted(there)
    seen = [own for own in looks(asked.stopping, planned) if there.issuperset(own)]
    told = [
        {"seeds": len(own), "answer": _answer(sweep.with_seeds(own), asked, flags, base)}
        for own in seen
    ]
    return {"stopped": {"most": len(planned), "looks": told}}


def _answer(part: Sweep, asked: Question, flags: Mapping[str, str | None], base: Arm) -> str:
    """The verdict on the claim; without one, whether any arm is undecided."""
    if found := _judge(part, asked, flags, None):
        return str(found.verdict)
    own = next(arm for arm in part.arms if arm.name == base.name)
    words = {row["word"] for row in table(part, flags, own, asked.matters) if row["difference"]}
    return "decided" if words and Verdict.UNDECIDED not in words else "undecided"


def _sizes(sweep: Sweep, flags: Mapping[str, str | None]) -> list[tuple[int, Arm]]:
    """The arms that may be ranked, by their number of parameters."""
    ranked = [arm for arm in sweep.arms if not flags[arm.name]]
    return sorted(
        ((int(arm.finished[0].tags["n_params"]), arm) for arm in ranked), key=lambda pair: pair[0]
    )


def _fit(sweep: Sweep, flags: Mapping[str, str | None]) -> Fit | None:
    """The power law over the seeds that all ranked arms have; None with too few sizes or seeds."""
    sized = _sizes(sweep, flags)
    sizes = [size for size, _ in sized]
    if len(set(sizes)) < SIZES or len(set(sizes)) < len(sizes):
        return None
    common = set.intersection(*(set(arm.losses()) for _, arm in sized))
    losses = [[arm.losses()[seed] for _, arm in sized] for seed in sorted(common)]
    return power_law(sizes, losses) if len(losses) > 1 else None
