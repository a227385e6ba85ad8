"""Lists of runs and sweeps, for people and for programs: of the folders here, or of a store alone."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rich.table import Table
from rich.text import Text

from microgpt.console import out, print_table
from microgpt.run.find import find_sweep
from microgpt.run.folder import SHORTEST, NoSuchRun, RunFolder, all_runs, latest_runs
from microgpt.run.reading import BadRecord
from microgpt.run.record import FAILED, FINISHED, REFUSED, Record, finite, told, when
from microgpt.run.sweep import SweepFolder, all_sweeps
from microgpt.terminal import complain
from microgpt.tracking.listing import stored_runs, stored_sweeps

Row: TypeAlias = dict[str, Any]
R = TypeVar("R", bound=Record)
KEYS = {"held-out": "held_out", "params": "n_params"}  # of a row, where its heading is another


@dataclass(frozen=True)
class Wanted:
    """Which runs to list, and in which order.

    count   the last ones by `sort`, or the lowest of a loss; 0 for all
    status  only those with this status
    name    only those with this text in their name
    sweep   only those of the sweep with this id
    """

    count: int = 0
    sort: str = "begun"
    status: str | None = None
    name: str | None = None
    sweep: str | None = None

    @property
    def is_latest(self) -> bool:
        """Whether these are the latest runs, whatever they are."""
        return self.count > 0 and self == Wanted(self.count)

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """The wanted rows in their order; those without the loss that is sorted by are left out."""
        key = KEYS.get(self.sort, self.sort)
        fits = [row for row in rows if self._fits(row)]
        lowest = self.sort in ("held-out", "test")  # the best are wanted, not the last
        some = [row for row in fits if row[key] is not None or not lowest]
        some.sort(key=lambda row: (row[key] is not None, row[key]))
        if not self.count:
            return some
        return some[: self.count] if lowest else some[-self.count :]

    def _fits(self, row: Row) -> bool:
        return (
            self.status in (None, row["status"])
            and (self.name or "") in row["name"]
            and (self.sweep is None or self.sweep in row["sweeps"])
        )


def list_runs(outputs: Path, uri: str | None, wanted: Wanted, as_json: bool) -> None:
    """Prints the wanted runs: of the folders here, or of the store if there are none or `uri` names it.

    The runs of a sweep without a folder here are those of the store.
    A damaged one is named on standard error, and left out. Raises BadValue and NoSuchRun.
    """
    found = find_sweep(outputs, wanted.sweep) if wanted.sweep and not uri else None
    sweep = found.path.name if found else None
    if uri or not any(outputs.glob("runs/*")) or (wanted.sweep and not found):
        rows = stored_runs(uri, outputs)
        sweep = wanted.sweep and _stored_id(wanted.sweep, stored_sweeps(uri, outputs))
    else:
        folders = latest_runs(outputs, wanted.count) if wanted.is_latest else all_runs(outputs)
        rows = _rows(folders, run_row)
    if wanted.sweep and not sweep:
        problem = "no such sweep; `microgpt sweeps` lists the sweeps"
        raise NoSuchRun(f"--sweep {wanted.sweep}: {problem}")
    chosen = Wanted(wanted.count, wanted.sort, wanted.status, wanted.name, sweep).chosen(rows)
    headings = {"run": "id", "status": "status", "step": "step", "held-out": "held_out"}
    _show(chosen, headings | {"params": "n_params", "name": "name"}, as_json)
    if wanted.is_latest and len(chosen) == wanted.count and out.is_terminal:
        out.print(f"the latest {wanted.count}; -n 0 lists all")


def _stored_id(name: str, rows: Sequence[Row]) -> str | None:
    """The id of the latest sweep of this experiment, else of the only one whose id begins so."""
    named = [row["id"] for row in rows if name in (row["id"], row["mlflow"], row["experiment"])]
    begun = [row["id"] for row in rows if len(name) >= SHORTEST and row["id"].startswith(name)]
    return named[-1] if named else begun[0] if len(begun) == 1 else None


def list_sweeps(outputs: Path, uri: str | None, as_json: bool) -> None:
    """Prints the sweeps, likewise. Raises BadValue."""
    stored = uri or not any(outputs.glob("sweeps/*"))
    rows = stored_sweeps(uri, outputs) if stored else _rows(all_sweeps(outputs), sweep_row)
    headings = {"sweep": "id", "status": "status", "begun": "begun", "done": "finished"}
    _show(rows, headings | {"name": "name"}, as_json)


def _rows(folders: Sequence[R], row: Callable[[R], Row]) -> list[Row]:
    rows = []
    for folder in folders:
        try:
            rows.append(row(folder))
        except BadRecord as error:
            complain(str(error))
    return rows


def run_row(folder: RunFolder) -> Row:
    """The facts of a run. Raises BadRecord."""
    info, status = folder.info_and_status()
    rows = folder.metrics()
    last = {key: value for row in rows for key, value in row.items()}
    return {
        "id": folder.path.name,
        "name": info["name"],
        "status": told(info, status),
        "step": int(last.get("step", 0)),
        "num_steps": info["num_steps"],
        "held_out": finite(last.get("val/loss")),
        "test": finite(last.get("test/loss")),
        "n_params": info.get("n_params"),
        "begun": when(info["begun"]),
        "sweeps": sorted(info.get("sweeps", {})),
        "mlflow": folder.mlflow_run_id or None,
        "folder": str(folder.path),
    }


def sweep_row(folder: SweepFolder) -> Row:
    """The facts of a sweep. Raises BadRecord."""
    info, status = folder.info_and_status()
    states = [_state(folder.run(job)) for job in info["jobs"]]
    return {
        "id": folder.path.name,
        "name": info["name"],
        "experiment": info.get("experiment"),
        "status": status,
        "jobs": len(states),
        "finished": states.count(FINISHED),
        "failed": states.count(FAILED),
        "refused": states.count(REFUSED),
        "varied": info["grid"],
        "begun": when(info["begun"]),
        "mlflow": folder.mlflow_run_id or None,
        "folder": str(folder.path),
    }


def _state(run: RunFolder) -> str:
    try:
        return told(*run.info_and_status()) if run.exists else "waiting"
    except BadRecord:
        return FAILED


def _show(rows: Sequence[Row], headings: dict[str, str], as_json: bool) -> None:
    """Prints rows as a table of `heading -> key`, or as JSON."""
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    if not rows:
        print("none")
        return
    table = Table(box=None)
    for heading in headings:  # if there is no room, the name is cut
        table.add_column(heading, no_wrap=heading != "name")
    for row in rows:
        cells = [_cell(row, key) for key in headings.values()]
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    print_table(table)


def _cell(row: Row, key: str) -> str:
    value = row[key]
    if value is None:
        return ""
    if key == "step":
        return f"{value}/{row['num_steps']}"
    if key == "finished":
        return f"{value}/{row['jobs']}"
    if key == "begun":
        return str(value)[:16].replace("T", " ")
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
