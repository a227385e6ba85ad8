"""From a sweep to the content of its lock: every number of a report is made here."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.claims import UNCLEAR, Evidence, Evident, Judged, claim
from microgpt.ablation.fit import SIZES, Fit, power_law
from microgpt.ablation.lock import differences, metrics_sha256, neutral
from microgpt.ablation.question import Question, fits, question
from microgpt.ablation.rates import Grid, Tuning, grids, rate_used
from microgpt.ablation.stats import (
    Summary,
    detectable,
    holm,
    p_value,
    summary,
    word,
)
from microgpt.ablation.store import Arm, Run, Sweep
from microgpt.ablation.tokens import tokens_trained
from microgpt.core.check import BadValue

DIGITS = 6  # of every figure that is computed: what is left is the same on every machine
LAST = 0.2  # the share of the steps over which a curve should have flattened
EVIDENCE = ("val/loss", "val/bpc")


def analyse(sweep: Sweep, tuned: Tuning | None) -> dict[str, Any]:
    """The lock of a sweep. Raises BadValue where the sweep cannot answer its question."""
    asked = asked_by(sweep)
    check(sweep)
    own = grids(sweep, str(asked.axis)) if asked.of_rates else []
    flags = {arm.name: _flag(sweep, arm, own, tuned) for arm in sweep.arms}
    base = baseline(sweep, asked)
    fit = _fit(sweep, flags) if asked.fit else None
    judged = _judge(sweep, asked, flags, base, fit)
    finished = [run for run in sweep.runs if run.status == "finished"]
    return {
        "experiment": sweep.experiment or sweep.name,
        "description": sweep.description,
        "sweep": {key: getattr(sweep, key) for key in ("id", "signature", "source")},
        "ablation": dict(sweep.ablation) if sweep.ablation else None,
        "verdict": judged.verdict if judged else None,
        "because": judged.because if judged else None,
        "baseline": base.name,
        "table": table(sweep, flags, base),
        "settled": settled(sweep, base),
        "rates": [_grid(one) for one in own] or None,
        "tuning": _tuning(tuned),
        "fit": _fitted(fit, _sizes(sweep, flags)) if fit else None,
        "config": neutral(sweep.config),
        "data": _data(finished[0]),
        "fingerprint": _tagged(finished[0], "fingerprint."),
        "runs": [_locked(sweep, run, _tagged(finished[0], "fingerprint.")) for run in sweep.runs],
    }


def asked_by(sweep: Sweep) -> Question:
    """The sweep's question; one without a section is compared with its first arm, and claims nothing."""
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
    """There is something to report. Raises BadValue."""
    finished = [run for run in sweep.runs if run.status == "finished"]
    if not finished:
        problem = f"none of its {len(sweep.runs)} runs has finished"
        raise BadValue("sweep", sweep.name, problem)
    for metric in EVIDENCE:
        without = [run.name for run in finished if metric not in run.metrics]
        if without:
            problem = f"{len(without)} of {len(finished)} finished runs have no {metric}"
            problem += f" ({without[0]}, ...); it takes trainer.eval_documents above 0"
            raise BadValue("sweep", sweep.name, problem)


def baseline(sweep: Sweep, asked: Question) -> Arm:
    """The arm that others are compared with. Raises BadValue."""
    found = [arm for arm in sweep.arms if fits(arm.differs, asked.baseline)]
    if len(found) != 1:
        names = ", ".join(arm.name for arm in sweep.arms)
        allowed = f"must fit one arm of the sweep, not {len(found)}; there are {names}"
        raise BadValue("ablation.baseline", dict(asked.baseline), allowed)
    return found[0]


def _flag(sweep: Sweep, arm: Arm, own: Sequence[Grid], tuned: Tuning | None) -> str | None:
    """Why an arm may not be ranked."""
    if not arm.finished:
        return "no run finished"
    for grid in own:
        if grid.flag and fits(arm.differs, grid.differs):
            return grid.flag
    return tuned.flag(arm, rate_used(sweep, arm)) if tuned else None


def table(sweep: Sweep, flags: Mapping[str, str | None], base: Arm) -> list[dict[str, Any]]:
    """A row an arm. Only arms that may be ranked are compared with the baseline."""
    paired = {arm.name: _difference(arm, base) for arm in sweep.arms if not flags[arm.name]}
    if flags[base.name]:
        paired = {}
    told = {name: d for name, d in paired.items() if d is not None and name != base.name}
    corrected = dict(zip(told, holm([p_value(d) for d in told.values()])))
    return [
        _row(sweep, arm, flags[arm.name], told.get(arm.name), corrected.get(arm.name), len(told))
        | {"word": _word(arm, base, flags, told, corrected)}
        for arm in sweep.arms
    ]


def _difference(arm: Arm, base: Arm) -> Summary | None:
    """arm - base over the seeds that both have."""
    ours, theirs = arm.losses(), base.losses()
    pairs = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    return summary(pairs) if pairs else None


def _word(
    arm: Arm,
    base: Arm,
    flags: Mapping[str, str | None],
    told: Mapping[str, Summary],
    corrected: Mapping[str, float | None],
) -> str:
    if flags[arm.name]:
        return "not ranked"
    if arm is base:
        return "baseline"
    if flags[base.name]:
        return "baseline not ranked"
    if arm.name not in told:
        return "no seed in common"
    return word(told[arm.name], corrected[arm.name])


def _row(
    sweep: Sweep,
    arm: Arm,
    flag: str | None,
    difference: Summary | None,
    corrected: float | None,
    comparisons: int,
) -> dict[str, Any]:
    finished = arm.finished
    sizes = {run.tags.get("n_params") for run in finished}
    counts = [tokens_trained(run.config, sweep.documents) for run in finished]
    tokens = [count for count in counts if count is not None]
    row: dict[str, Any] = {
        "arm": arm.name,
        "differs": dict(arm.differs),
        "finished": len(finished),
        "unfinished": len(arm.runs) - len(finished),
        "loss": _numbers(arm.losses()),
        "bpc": _numbers(arm.losses("val/bpc")),
        "difference": None,
        "n_params": int(str(sizes.pop())) if len(sizes) == 1 else None,
        "tokens": round(sum(tokens) / len(tokens)) if tokens else None,
        "flag": flag,
    }
    if difference:
        row["difference"] = _rounded(difference) | {
            "p": _round(corrected),
            "detectable": _round(detectable(difference, comparisons)),
        }
    return row


def _numbers(by_seed: Mapping[int, float]) -> dict[str, Any] | None:
    return _rounded(summary(list(by_seed.values()))) if by_seed else None


def settled(sweep: Sweep, base: Arm) -> dict[str, Any] | None:
    """How far held-out losses, and differences from the baseline, moved over the last fifth.

    None where no run was evaluated on the way. Positive: the loss fell.
    """
    earlier = {arm.name: _earlier(arm) for arm in sweep.arms}
    if not any(earlier.values()):
        return None
    falls, moves = {}, {}
    for arm in sweep.arms:
        then, now = earlier[arm.name], arm.losses()
        if then:
            falls[arm.name] = math.fsum(then[s] - now[s] for s in then) / len(then)
        there = sorted(then.keys() & earlier[base.name].keys())
        if there and arm is not base:
            other = base.losses()
            gaps = [(now[s] - other[s]) - (then[s] - earlier[base.name][s]) for s in there]
            moves[arm.name] = math.fsum(gaps) / len(gaps)
    most = max(falls, key=lambda name: falls[name])
    result: dict[str, Any] = {
        "share": LAST,
        "mean": _round(math.fsum(falls.values()) / len(falls)),
        "most": {"arm": most, "fell": _round(falls[most])},
    }
    if moves:
        moved = max(moves, key=lambda name: abs(moves[name]))
        result["difference"] = {"arm": moved, "moved": _round(moves[moved])}
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


def _judge(
    sweep: Sweep, asked: Question, flags: Mapping[str, str | None], base: Arm, fit: Fit | None
) -> Judged | None:
    if asked.claim is None:
        return None
    arms = [Evident(arm.name, arm.differs, arm.losses(), flags[arm.name]) for arm in sweep.arms]
    reference = next(arm for arm in arms if arm.name == base.name)
    stated = claim(asked.claim)
    evidence = Evidence(arms, reference, asked.matters, asked.axis, fit)
    judged = stated.judge(evidence)
    missing = len(sweep.unfinished)
    if missing and judged.verdict != UNCLEAR:
        judged = Judged(judged.verdict, f"{judged.because} ({missing} runs did not finish)")
    return judged


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


def _fitted(fit: Fit, sized: Sequence[tuple[int, Arm]]) -> dict[str, Any]:
    names = [arm.name for _, arm in sized]
    local = zip(names, names[1:], fit.local)
    return {
        "against": "n_params",
        "arms": names,
        "factor": _round(fit.factor),
        "exponent": _rounded(fit.exponent),
        "bend": _rounded(fit.bend) | {"p": _round(fit.p_bend), "word": fit.word},
        "local": [{"from": a, "to": b, **_rounded(exponent)} for a, b, exponent in local],
        "line": [{"size": _round(size), **_rounded(loss)} for size, loss in fit.line],
    }


def _grid(grid: Grid) -> dict[str, Any]:
    points = [
        {"rate": rate, "loss": _rounded(found) if found else None} for rate, found in grid.points
    ]
    return {"arm": grid.name, "best": grid.best, "flag": grid.flag, "points": points}


def _tuning(tuned: Tuning | None) -> dict[str, Any] | None:
    if tuned is None:
        return None
    return {
        "experiment": tuned.experiment,
        "sweep": tuned.sweep.id if tuned.sweep else None,
        "seeds": sorted({run.seed for run in tuned.sweep.runs}) if tuned.sweep else [],
        "departs": {key: list(pair) for key, pair in tuned.departs.items()},
        "grids": [_grid(one) for one in tuned.grids],
    }


def _locked(sweep: Sweep, run: Run, usual: Mapping[str, str]) -> dict[str, Any]:
    """A run as the lock has it."""
    known: dict[str, Any] = {"name": run.name, "arm": run.arm, "seed": run.seed}
    if run.status != "finished":
        return known | {"status": run.status, "reason": run.reason}
    own = _tagged(run, "fingerprint.")
    return known | {
        "status": run.status,
        **differences(sweep.config, run.config),
        "signature": run.tags["signature"],
        "source": run.tags["source"],
        "parameters_sha256": run.tags["parameters_sha256"],
        "n_params": int(run.tags["n_params"]),
        "metrics": dict(sorted(run.metrics.items())),
        "metrics_sha256": metrics_sha256(run.rows),
        "samples_sha256": run.samples_sha256,
        **({"fingerprint": own} if own != usual else {}),
    }


def _data(run: Run) -> dict[str, Any]:
    facts = _tagged(run, "data.")
    return {key: int(v) if v.isdigit() and key != "digest" else v for key, v in facts.items()}


def _tagged(run: Run, prefix: str) -> dict[str, str]:
    tags = sorted(run.tags.items())
    return {key.removeprefix(prefix): value for key, value in tags if key.startswith(prefix)}


def _rounded(of: Summary) -> dict[str, Any]:
    numbers = {key: _round(getattr(of, key)) for key in ("mean", "sd", "low", "high")}
    return {"n": of.n, **numbers}


def _round(value: float | None) -> float | None:
    """To DIGITS; -0.0 becomes 0.0."""
    return None if value is None else round(value, DIGITS) + 0.0
