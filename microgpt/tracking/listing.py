"""The runs and sweeps of a store, with the facts that `microgpt.listing` shows of folders."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.core.check import BadValue
from microgpt.run.record import FAILED, FINISHED, REFUSED, finite, told, when
from microgpt.tracking.address import database_file, store_uri
from microgpt.tracking.find import searched
from microgpt.tracking.owner import FOLDER, NAME, status_of
from microgpt.tracking.store import open_store, problem
from microgpt.tracking.view import is_sweep

if TYPE_CHECKING:
    from mlflow.entities import Run


def stored_runs(uri: str | None, outputs: Path) -> list[dict[str, Any]]:
    """The runs of a store, the oldest first. Raises BadValue."""
    return [_run_row(run) for run in _runs(uri, outputs)]


def stored_sweeps(uri: str | None, outputs: Path) -> list[dict[str, Any]]:
    """The sweeps of a store, the oldest first. Raises BadValue."""
    parents = _search(uri, outputs, "tags.`sweep.id` != ''")
    members: dict[str, list[Run]] = {}
    for run in _runs(uri, outputs) if parents else []:
        for sweep in _sweeps(run):
            members.setdefault(sweep, []).append(run)
    return [_sweep_row(parent, members.get(parent.data.tags["sweep.id"], [])) for parent in parents]


def _runs(uri: str | None, outputs: Path) -> "list[Run]":
    """The runs that stand for no sweep."""
    found = _search(uri, outputs, f"tags.`{NAME}` != ''")
    return [run for run in found if not is_sweep(run)]


def _search(uri: str | None, outputs: Path, query: str) -> "list[Run]":
    """The runs that satisfy a query; none where there is no store yet. Raises BadValue."""
    store = store_uri(uri, outputs)
    file = database_file(store)
    if file is not None and not file.is_file():
        if uri is None:
            return []
        raise BadValue("uri", store, "no runs yet; `microgpt train` makes the first")
    try:
        client = open_store(store, outputs)
        homes = [str(there.experiment_id) for there in client.search_experiments()]
        return searched(client, homes, query, ["attributes.start_time ASC"])
    except Exception as error:  # whatever a store may raise
        raise BadValue("uri", store, problem(error)) from error


def _run_row(run: "Run") -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    num_steps = int(run.data.params.get("trainer.num_steps", 0))
    return {
        **_common(run, NAME),
        "step": _step(run, num_steps),
        "num_steps": num_steps,
        "held_out": finite(metrics.get("val/loss")),
        "test": finite(metrics.get("test/loss")),
        "n_params": int(tags["n_params"]) if "n_params" in tags else None,  # it never began
        "sweeps": sorted(_sweeps(run)),
    }


def _step(run: "Run", num_steps: int) -> int | None:
    """The last step of a run that ended; None for another."""
    if run.info.status == "FINISHED":
        return num_steps
    told = run.data.tags.get("failed_at") or run.data.tags.get("stopped_at", "")
    numbers = [word for word in told.split() if word.isdigit()]
    return int(numbers[0]) if numbers else None


def _sweep_row(parent: "Run", own: "list[Run]") -> dict[str, Any]:
    states = [told(run.data.tags, status_of(run)) for run in own]
    return {
        **_common(parent, "sweep.id"),
        "experiment": parent.data.tags.get("sweep.experiment"),
        "jobs": len(own),
        "finished": states.count(FINISHED),
        "failed": states.count(FAILED),
        "refused": states.count(REFUSED),
    }


def _sweeps(run: "Run") -> set[str]:
    marks = {key.removeprefix("sweep.") for key in run.data.tags if key.startswith("sweep.")}
    return marks - {"id", "signature", "experiment", "alive"}


def _common(run: "Run", name: str) -> dict[str, Any]:
    return {
        "id": run.data.tags.get(name, run.info.run_id),
        "name": run.info.run_name or "",
        "status": told(run.data.tags, status_of(run)),
        "begun": when((run.info.start_time or 0) / 1000),
        "mlflow": run.info.run_id,
        "folder": run.data.tags.get(FOLDER),
    }
