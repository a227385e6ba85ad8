"""The figures of a run: those of its folder as a store takes them, and those that the store has."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from microgpt.run.folder import RunFolder
from microgpt.tracking.store import database_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

LOSS = "train/loss"
HELD_OUT = ("val/", "test/")  # how the names of what is measured now and then begin
Known: TypeAlias = set[tuple[str, int]]  # name and step


class Figures:
    """The metrics of a folder, row after row. They are the same whenever they are read."""

    def __init__(self, folder: RunFolder, begun: float) -> None:
        self.folder, self.begun = folder, begun
        self.read = 0  # bytes of the file
        self._held_out: set[str] = set()

    def rows(self) -> "Iterator[tuple[list[Metric], int]]":
        """Each row that was not read before, and where it ends."""
        for row, end in self.folder.metrics_from(self.read):
            yield self._metrics(row), end

    def _metrics(self, row: Mapping[str, float]) -> "list[Metric]":
        """A row for the store.

        What is not finite is NaN there: SQL stores would turn infinity into a number. And a run whose
        loss is not finite has no held-out loss any more: a table would have it by the last one, above
        runs that have finished.
        """
        from mlflow.entities import Metric

        time = round((self.begun + row.get("cost/seconds", 0.0)) * 1000)
        values = {key: value for key, value in row.items() if key != "step"}
        self._held_out.update(key for key in values if key.startswith(HELD_OUT))
        if not math.isfinite(values.get(LOSS, 0.0)):
            values = dict.fromkeys(sorted(self._held_out), math.nan) | values
        return [
            Metric(key, value if math.isfinite(value) else math.nan, time, int(row["step"]))
            for key, value in values.items()
        ]


def known(client: "MlflowClient", run: "Run") -> Known:
    """The figures that a store has of a run."""
    if (found := _of_database(client, run)) is not None:
        return found
    return _of_server(client, run, list(run.data.metrics))


def _of_server(client: "MlflowClient", run: "Run", names: Sequence[str]) -> Known:
    """The figures that a server has of some metrics, which takes it a call each."""
    run_id = run.info.run_id
    return {(n, int(m.step)) for n in names for m in client.get_metric_history(run_id, n)}


def has_all(client: "MlflowClient", run: "Run", figures: Figures) -> bool:
    """Whether a store has the figures of a run that is over.

    A database is asked for all. A server would be asked for each metric: of it the last values are
    looked at, which came with the run, and the steps of the metric that has most.
    """
    own = [metric for metrics, _ in figures.rows() for metric in metrics]
    last = {metric.key: metric.value for metric in own}
    if any(not _is_same(run.data.metrics.get(key), last[key]) for key in last):
        return False
    wanted = {(metric.key, metric.step) for metric in own}
    counts = Counter(key for key, _ in wanted)
    if (there := _of_database(client, run)) is None:
        names = [name for name, _ in counts.most_common(1)]
        wanted = {(key, step) for key, step in wanted if key in names}
        there = _of_server(client, run, names)
    return wanted <= there


def _is_same(a: float | None, b: float) -> bool:
    return a is not None and (a == b or (a != a and b != b))


def _of_database(client: "MlflowClient", run: "Run") -> Known | None:
    """The figures that a database has of a run, in one query; None from a server."""
    if (store := database_of(client)) is None:
        return None
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import select

    query: Any = select(SqlMetric.key, SqlMetric.step).where(SqlMetric.run_uuid == run.info.run_id)
    with store.ManagedSessionMaker() as session:
        return {(str(key), int(step)) for key, step in session.execute(query)}
