"""`microgpt compare RUN RUN ...`: params that differ, last metrics, first step at which curves differ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.markup import escape
from rich.table import Table

from microgpt.ablation.compare_sweeps import compare_sweeps
from microgpt.ablation.records.record import Store, pointed
from microgpt.ablation.records.store import client_of
from microgpt.ablation.reproduce.replay import by_step, figures_of
from microgpt.console import print_table
from microgpt.core.check import BadValue
from microgpt.run.find import find_sweep
from microgpt.tracking import comparable
from microgpt.tracking.find import find_parent
from microgpt.tracking.view import is_sweep

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")
NOTHING = "·"  # for a param or metric that a run lacks


def compare(references: Sequence[str], uri: str | None, outputs: Path, as_json: bool) -> None:
    """Prints a comparison of runs, or of two sweeps, from one store, as tables or JSON.

    Raises NoSuchRun, BadValue.
    """
    if len(references) < 2:
        raise BadValue("RUN", " ".join(references), "name at least two runs")
    if len(references) == 2 and (sweeps := _sweeps(references, uri, outputs)):
        compare_sweeps(*sweeps, as_json)
        return
    ids, homes = zip(*(pointed(outputs, reference) for reference in references))
    store = Store(uri or next(filter(None, homes), None), outputs)
    runs = [store.find(own) for own in ids]
    for reference, run in zip(references, runs):
        if is_sweep(run):
            raise BadValue("RUN", reference, "is a sweep, and is compared with one other sweep")
    differs = different(comparable([run.data.params for run in runs]))
    figures = merged([figures_of(run.data.metrics) for run in runs])
    parting = partings([by_step(store.series(run)) for run in runs])
    if as_json:
        own = [{"mlflow": run.info.run_id, "name": run.info.run_name} for run in runs]
        facts = {"runs": own, "differs": differs, "figures": figures, "curves_part": parting}
        print(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    print_table(_table("differs", differs, runs))
    print_table(_table("last figures", figures, runs))
    table = Table("curves part", "first at step", box=None, title_justify="left")
    for name, step in parting.items():
        table.add_row(escape(name), "never" if step is None else str(step))
    print_table(table)


def _sweeps(
    references: Sequence[str], uri: str | None, outputs: Path
) -> "tuple[MlflowClient, list[Run]] | None":
    """The runs of the sweeps that are named so, with their store; None if one is no sweep's name."""
    own = [find_sweep(outputs, reference) for reference in references]
    uris = [each.config["tracking"].get("uri") for each in own if each]
    client, store = client_of(uri or next(filter(None, uris), None), outputs)
    names = [each.path.name if each else name for each, name in zip(own, references)]
    try:
        return client, [find_parent(client, name, store) for name in names]
    except BadValue:
        return None


def different(params: Sequence[Mapping[str, T]]) -> dict[str, list[T | None]]:
    """The params that differ between runs."""
    return {key: values for key, values in merged(params).items() if len(set(values)) > 1}


def merged(facts: Sequence[Mapping[str, T]]) -> dict[str, list[T | None]]:
    """key -> its value in each run, None in one that lacks it."""
    keys = sorted({key for each in facts for key in each})
    return {key: [each.get(key) for each in facts] for key in keys}


def partings(curves: Sequence[Mapping[int, Mapping[str, Any]]]) -> dict[str, int | None]:
    """metric -> the first step at which the runs differ, None if they do not."""
    steps = sorted({step for curve in curves for step in curve})
    names = sorted({name for curve in curves for told in curve.values() for name in told})
    return {
        name: next((step for step in steps if _part(curves, step, name)), None) for name in names
    }


def _part(curves: Sequence[Mapping[int, Mapping[str, Any]]], step: int, name: str) -> bool:
    first, *others = [curve.get(step, {}).get(name) for curve in curves]
    return any(other != first for other in others)


def _table(title: str, rows: Mapping[str, Sequence[Any]], runs: "Sequence[Run]") -> Table:
    """A table with a row per key and a column per run."""
    table = Table(box=None, title_justify="left")
    table.add_column(title if rows else f"{title}: nothing", no_wrap=True)
    for run in runs:
        table.add_column(escape(f"{run.info.run_name}\n{run.info.run_id[:8]}"))
    for key, values in rows.items():
        table.add_row(escape(key), *(escape(_cell(value)) for value in values))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return NOTHING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
