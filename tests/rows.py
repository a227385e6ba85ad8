"""Runs written into a store's database as MLflow writes them, at a tenth of what its calls take."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4


@dataclass(frozen=True)
class Logged:
    """A run of a store: `metrics` has a row for each step, `files` the content of each artifact."""

    name: str
    status: str
    begun: int  # in milliseconds
    ended: int
    tags: Mapping[str, str]
    metrics: Sequence[Mapping[str, float]] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def log_runs(outputs: Path, experiment: str, runs: Iterable[Logged]) -> None:
    """Add runs to an experiment of the default store, whose artifacts are below `outputs`."""
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database, database:
        for run in runs:
            _log_run(database, outputs, experiment, run)


def _log_run(database: sqlite3.Connection, outputs: Path, experiment: str, run: Logged) -> None:
    run_id = uuid4().hex
    artifacts = outputs / "artifacts/microgpt" / run_id / "artifacts"
    values = {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "unknown",
        "status": run.status,
        "start_time": run.begun,
        "end_time": run.ended if run.status != "RUNNING" else None,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifacts.as_uri(),
        "experiment_id": int(experiment),
    }
    places = ", ".join(f":{name}" for name in values)
    database.execute(f"insert into runs ({', '.join(values)}) values ({places})", values)
    tags = {**run.tags, "mlflow.runName": run.name}
    database.executemany(
        "insert into tags (key, value, run_uuid) values (?, ?, ?)",
        [(key, value, run_id) for key, value in tags.items()],
    )
    for table, rows in (("metrics", run.metrics), ("latest_metrics", run.metrics[-1:])):
        database.executemany(
            f"insert into {table} (key, value, timestamp, step, run_uuid, is_nan)"
            " values (?, ?, ?, ?, ?, 0)",
            [
                (key, value, row["step"], row["step"], run_id)
                for row in rows
                for key, value in row.items()
                if key != "step"
            ],
        )
    if run.files:
        artifacts.mkdir(parents=True)
    for name, content in run.files.items():
        (artifacts / name).write_text(content)
