"""The entries of a lock, as plain values rounded to a fixed number of digits."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, overload

from microgpt.ablation.evidence.lock import (
    ASIDE,
    curve_of,
    differences,
    held_out_sha256,
    metrics_sha256,
)
from microgpt.ablation.records.sweep import Arm, Run, Sweep
from microgpt.ablation.report.rates import Grid, Tuning
from microgpt.ablation.statistics.power_law import Fit
from microgpt.ablation.statistics.summary import Summary

DIGITS = 12  # significant, of computed figures: the last ones depend on the machine and on SciPy


def fit_entry(fit: Fit, sized: Sequence[tuple[int, Arm]]) -> dict[str, Any]:
    names = [arm.name for _, arm in sized]
    local = zip(names, names[1:], fit.local)
    return {
        "against": "n_params",
        "arms": names,
        "factor": digits(fit.factor),
        "exponent": rounded(fit.exponent),
        "bend": rounded(fit.bend) | {"p": digits(fit.p_bend), "word": fit.word},
        "local": [{"from": a, "to": b, **rounded(exponent)} for a, b, exponent in local],
        "line": [{"size": digits(size), **rounded(loss)} for size, loss in fit.line],
    }


def grid_entry(grid: Grid) -> dict[str, Any]:
    points = [
        {"rate": rate, "loss": rounded(found) if found else None} for rate, found in grid.points
    ]
    return {
        "arm": grid.name,
        "differs": dict(grid.differs),
        "best": grid.best,
        "flag": grid.flag,
        "points": points,
    }


def tuning_entry(tuned: Tuning | None) -> dict[str, Any] | None:
    if tuned is None:
        return None
    return {
        "experiment": tuned.experiment,
        "sweep": tuned.sweep.id if tuned.sweep else None,
        "figure": tuned.sweep.figure if tuned.sweep else None,
        "seeds": sorted({run.seed for run in tuned.sweep.runs}) if tuned.sweep else [],
        "departs": {key: list(pair) for key, pair in tuned.departs.items()},
        "grids": [grid_entry(one) for one in tuned.grids],
        "runs": tuning_runs(tuned.sweep) if tuned.sweep else [],
    }


def tuning_runs(sweep: Sweep) -> list[dict[str, Any]]:
    """The runs of a sweep that chose learning rates: what its grids are computed from."""
    return [
        {"arm": arm.name, "differs": dict(arm.differs), "seed": run.seed, "status": run.status}
        | {"loss": run.metrics.get(sweep.figure)}
        for arm in sweep.arms
        for run in arm.runs
    ]


def sweep_entry(sweep: Sweep) -> dict[str, Any]:
    """Who a sweep is, and the words of its command that its runs depend on."""
    known = {key: getattr(sweep, key) for key in ("id", "signature", "source")}
    words = [word for word in sweep.overrides if re.split("[=./]", word)[0] not in ASIDE]
    return {**known, "overrides": words}


def run_entry(sweep: Sweep, run: Run, usual: Mapping[str, str]) -> dict[str, Any]:
    """The lock's entry for a run."""
    known: dict[str, Any] = {"name": run.name, "arm": run.arm, "seed": run.seed}
    known |= {"signature": run.signature, "source": run.source}
    if run.status != "finished":
        return known | {"status": run.status, "reason": run.reason}
    own = tagged(run, "fingerprint.")
    return known | {
        "status": run.status,
        **differences(sweep.config, run.config),
        "parameters_sha256": run.tags["parameters_sha256"],
        "n_params": int(run.tags["n_params"]),
        "metrics": dict(sorted(run.metrics.items())),
        "curve": curve_of(run.rows),
        "metrics_sha256": metrics_sha256(run.rows),
        "samples_sha256": run.samples_sha256,
        "held_out_sha256": held_out_sha256(run.held_out),
        "samples": list(run.samples),
        **({"fingerprint": own} if own != usual else {}),
    }


def data_entry(run: Run) -> dict[str, Any]:
    """The facts about the documents, with counts as numbers."""
    words = {"name", "digest", "vocabulary", "batching"}
    facts = tagged(run, "data.")
    return {key: value if key in words else _number(value) for key, value in facts.items()}


def _number(text: str) -> float:
    """A count as an int, another number as a float."""
    return int(text) if text.isdecimal() else float(text)


def tagged(run: Run, prefix: str) -> dict[str, str]:
    tags = sorted(run.tags.items())
    return {key.removeprefix(prefix): value for key, value in tags if key.startswith(prefix)}


def rounded(of: Summary) -> dict[str, Any]:
    numbers = {key: digits(getattr(of, key)) for key in ("mean", "sd", "low", "high")}
    return {"n": of.n, **numbers}


@overload
def digits(value: float) -> float: ...


@overload
def digits(value: None) -> None: ...


def digits(value: float | None) -> float | None:
    """Rounds to DIGITS significant digits; -0.0 becomes 0.0."""
    return None if value is None else float(f"{value:.{DIGITS}g}") + 0.0
