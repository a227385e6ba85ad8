"""What a lock has beside the table of its arms: curves, costs, intervals over documents, samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.ablation.evidence.entries import digits, rounded
from microgpt.ablation.records.sweep import Arm, Sweep
from microgpt.ablation.report.flattened import flattened
from microgpt.ablation.report.multiplier import CURVE, Multiplier, mean_curve, multiplier, spread
from microgpt.ablation.report.over_documents import crossed
from microgpt.ablation.report.render import is_known
from microgpt.ablation.report.samples import sampled
from microgpt.ablation.report.splits import Splits
from microgpt.ablation.statistics.crossed import Crossed
from microgpt.ablation.statistics.verdict import word

Rows = Sequence[Mapping[str, Any]]  # of the table


def beside(sweep: Sweep, base: Arm, rows: Rows, splits: Splits, matters: float) -> dict[str, Any]:
    """The entries of the lock, as plain values."""
    curves = {arm.name: mean_curve(arm.finished, sweep.interval) for arm in sweep.arms}
    known = {row["arm"] for row in rows if is_known(row)}
    same = _as_long(sweep, base, rows)
    times = {
        name: multiplier(curve, curves[base.name])
        for name, curve in curves.items()
        if name in known and name in same
    }
    known = {name for name, found in times.items() if found and not sweep.is_sequence}
    spreads = {arm.name: spread(arm, base, len(known)) for arm in sweep.arms if arm.name in known}
    samples = {arm.name: sampled(arm, splits) for arm in sweep.arms}
    return {
        "curves": {
            name: [{"step": step} | rounded(found) for step, found in curve]
            for name, curve in curves.items()
            if len(curve) > 1
        },
        "multipliers": {name: _times(found) for name, found in times.items() if found},
        "multiplier_intervals": {name: _ends(found) for name, found in spreads.items() if found},
        "flattened": flattened(sweep.arms, base, sweep.interval),
        "crossed": _crossed(sweep, base, rows, matters),
        "samples": {name: found for name, found in samples.items() if found},
    }


def _as_long(sweep: Sweep, base: Arm, rows: Rows) -> set[str]:
    """The arms that train as many steps as the baseline, of as many sequences and tokens."""
    tokens = {row["arm"]: row["tokens"] for row in rows}
    lengths = {arm.name: (_steps(arm), tokens[arm.name]) for arm in sweep.arms}
    return {name for name, length in lengths.items() if length == lengths[base.name]}


def _steps(arm: Arm) -> set[tuple[Any, ...]]:
    keys = ("num_steps", "batch_size", "accumulate")
    return {tuple(run.config["trainer"].get(key) for key in keys) for run in arm.finished}


def _times(found: Multiplier) -> dict[str, float]:
    numbers = {key: getattr(found, key) for key in ("times", "arm", "baseline", "loss")}
    return {key: digits(value) for key, value in numbers.items()}


def _ends(found: tuple[float, float]) -> dict[str, float]:
    return {"low": digits(found[0]), "high": digits(found[1])}


def _crossed(sweep: Sweep, base: Arm, rows: Rows, matters: float) -> dict[str, Any] | None:
    """The differences over seeds and documents, whose intervals hold together.

    None if the test part does not judge, and for a sequence: such an interval would not hold at any time.
    """
    if sweep.figure == CURVE or sweep.is_sequence:
        return None
    compared = [row["arm"] for row in rows if row["difference"]]
    found = {
        arm.name: crossed(arm, base, len(compared)) for arm in sweep.arms if arm.name in compared
    }
    told = {name: one for name, one in found.items() if one}
    if not told:
        return None
    documents = next(iter(told.values())).documents
    arms = {
        name: _rounded(one) | {"word": word(one.low, one.high, matters)}
        for name, one in told.items()
    }
    return {"documents": documents, "arms": arms}


def _rounded(of: Crossed) -> dict[str, Any]:
    numbers = ("mean", "low", "high", "df", "seed", "document", "rest")
    return {"seeds": of.seeds} | {key: digits(getattr(of, key)) for key in numbers}
