"""`microgpt compare RUN RUN ...`: params that differ, last metrics, first step at which curves differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from microgpt.ablation.record import Store, pointed
from microgpt.ablation.replay import by_step, figures_of
from microgpt.console import out
from microgpt.core.check import BadValue

if TYPE_CHECKING:
    from mlflow.entities import Run

NOTHING = "·"  # for a param or metric that a run lacks


def compare(references: Sequence[str], uri: str | None, outputs: Path) -> None:
    """Prints a comparison of runs from one store. Raises NoSuchRun, BadValue."""
    if len(references) < 2:
        raise BadValue("RUN", " ".join(references), "name at least two runs")
    ids, homes = zip(*(pointed(outputs, reference) for reference in references))
    store = Store(uri or next(filter(None, homes), None), outputs)
    runs = [store.find(own) for own in ids]
    out.print(_table("differs", different([run.data.params for run in runs]), runs))
    figures = [{n: f"{v:.6g}" for n, v in figures_of(run.data.metrics).items()} for run in runs]
    out.print(_table("last figures", merged(figures), runs))
    parting = partings([by_step(store.series(run)) for run in runs])
    table = Table("curves part", "first at step", box=None, title_justify="left")
    for name, step in parting.items():
        table.add_row(escape(name), "never" if step is None else str(step))
    out.print(table)


def different(params: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The params that differ between runs."""
    return {key: values for key, values in merged(params).items() if len(set(values)) > 1}


def merged(facts: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """key -> its value in each run."""
    keys = sorted({key for each in facts for key in each})
    return {key: [each.get(key, NOTHING) for each in facts] for key in keys}


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


def _table(title: str, rows: Mapping[str, Sequence[str]], runs: "Sequence[Run]") -> Table:
    """A table with a row per key and a column per run."""
    table = Table(box=None, title_justify="left")
    table.add_column(title if rows else f"{title}: nothing", no_wrap=True)
    for run in runs:
        table.add_column(escape(f"{run.info.run_name}\n{run.info.run_id[:8]}"))
    for key, values in rows.items():
        table.add_row(*map(escape, (key, *values)))
    return table
