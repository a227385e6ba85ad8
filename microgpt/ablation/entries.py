"""The entries of a lock, as plain values rounded to a fixed number of digits."""

from collections.abc import Mapping, Sequence
from typing import Any, overload

from microgpt.ablation.lock import differences, metrics_sha256
from microgpt.ablation.report.fit import Fit
from microgpt.ablation.report.rates import Grid, Tuning
from microgpt.ablation.statistics.summary import Summary
from microgpt.ablation.store import Arm, Run, Sweep

CURVE = ("step", "lr", "val/loss")  # of each evaluation on the way
DIGITS = 6  # of computed figures, so that they are the same on every machine


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
        "seeds": sorted({run.seed for run in tuned.sweep.runs}) if tuned.sweep else [],
        "departs": {key: list(pair) for key, pair in tuned.departs.items()},
        "grids": [grid_entry(one) for one in tuned.grids],
    }


def run_entry(sweep: Sweep, run: Run, usual: Mapping[str, str]) -> dict[str, Any]:
    """The lock's entry for a run."""
    known: dict[str, Any] = {"name": run.name, "arm": run.arm, "seed": run.seed}
    if run.status != "finished":
        return known | {"status": run.status, "reason": run.reason}
    own = tagged(run, "fingerprint.")
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
        "samples": list(run.samples),
        "curve": [{key: row[key] for key in CURVE} for row in run.evaluations],
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
    """Rounds to DIGITS decimals; -0.0 becomes 0.0."""
    return None if value is None else round(value, DIGITS) + 0.0
