"""Outputs that were moved or copied: their database says where the artifacts were when it was made."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

LOCATIONS = "select experiment_id, name, artifact_location from experiments"
EXPERIMENT = "update experiments set artifact_location = ? where experiment_id = ?"
RUNS = (
    "update runs set artifact_uri = ? || substr(artifact_uri, ?) "
    "where experiment_id = ? and substr(artifact_uri, 1, ?) = ?"
)


def follow(database: Path, outputs: Path) -> None:
    """Makes the database in `outputs` name the artifacts that lie beside it.

    Else a moved store would write where it was, and a copy into the original. Experiments whose
    artifacts are not below `outputs` keep their place; so does a database that cannot be written.
    """
    if not database.is_file():
        return
    with closing(sqlite3.connect(database)) as store, suppress(sqlite3.Error), store:
        for number, name, old in store.execute(LOCATIONS).fetchall():
            place = outputs.absolute() / "artifacts" / str(name)
            new = place.as_uri()
            if old != new and str(old).startswith("file:") and place.is_dir():
                store.execute(EXPERIMENT, (new, number))
                store.execute(RUNS, (new, len(old) + 1, number, len(old), old))
