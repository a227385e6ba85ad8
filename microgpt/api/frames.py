"""Runs, curves and arms as pandas DataFrames."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from microgpt.ablation.records.sweep import Run as Stored
from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord
from microgpt.sweep.expand import short_names
from microgpt.terminal import complain

if TYPE_CHECKING:
    from pandas import DataFrame

WORDS = ("run", "arm", "name", "status", "reason", "word")  # columns of texts
NUMBERS = {"": "mean", "_low": "low", "_high": "high"}  # end of a column -> key of a lock's figure


def runs_frame(folders: Sequence[RunFolder]) -> "DataFrame":
    """A row for each run, the oldest first, with its last metrics; damaged ones are left out."""
    rows = []
    for folder in folders:
        try:
            rows.append(_facts(folder))
        except BadRecord as error:
            complain(str(error))
    return _frame(rows, "run", ["name", "status", "step", "num_steps"])


def _facts(folder: RunFolder) -> dict[str, Any]:
    """Raises BadRecord."""
    info, status = folder.info_and_status()
    facts = {"run": info["id"], "name": info["name"], "status": status, "step": 0}
    facts |= {key: info.get(key) for key in ("num_steps", "n_params")}
    return facts | last(folder.metrics())


def stored_frame(runs: Sequence[Stored]) -> "DataFrame":
    """A row for each run of a sweep, in the order of its grid, with its last metrics."""
    rows = [
        {**about(run), "status": run.status, "reason": run.reason, **run.metrics} for run in runs
    ]
    return _frame(rows, "run", ["arm", "seed", "status", "reason"])


def curves_frame(runs: Sequence[Stored]) -> "DataFrame":
    """A row for each logged step of each finished run of a sweep."""
    return _frame(
        [{**about(run), **row} for run in runs for row in run.rows], None, ["run", "step"]
    )


def about(run: Stored) -> dict[str, Any]:
    """What tells a run of a sweep from the others; a job without a run has the id ""."""
    names = short_names(list(run.differs))
    differs = {names[key]: value for key, value in run.differs.items()}
    return {"run": run.tags.get("microgpt.id", ""), "arm": run.arm, "seed": run.seed, **differs}


def arms_frame(table: Sequence[Mapping[str, Any]]) -> "DataFrame":
    """A row for each row of a lock's table."""
    rows = []
    for row in table:
        names = short_names(list(row["differs"]))
        differs = {names[key]: value for key, value in row["differs"].items()}
        figures = {
            f"{name}{end}": (row[name] or {}).get(key)
            for name in ("loss", "bpc", "difference")
            for end, key in NUMBERS.items()
        }
        rows.append({"arm": row["arm"], **differs, "runs": row["finished"], **figures})
        rows[-1] |= {"n_params": row["n_params"], "word": row["word"]}
    return _frame(rows, "arm", [])


def last(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The last value of each metric, without clock times."""
    found = {key: value for row in rows for key, value in row.items()}
    return {key: value for key, value in found.items() if not key.startswith("cost/")}


def _frame(rows: Sequence[Mapping[str, Any]], index: str | None, always: list[str]) -> "DataFrame":
    """A frame whose columns of numbers, also as text, are numbers."""
    from pandas import DataFrame, to_numeric

    columns = list(dict.fromkeys(key for row in rows for key in row)) or [
        key for key in (index, *always) if key
    ]
    frame = DataFrame([dict(row) for row in rows], columns=columns)
    for name in frame.columns.difference([index, *WORDS]):
        try:
            frame[name] = to_numeric(frame[name])
        except (ValueError, TypeError):  # words
            continue
    return frame.set_index(index) if index else frame
