"""Outputs that were moved or copied: their database says where the artifacts were when it was made."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

LOCATIONS = "select experiment_id, name, artifact_location from experiments"
EXPERIMENT = "update experiments set artifact_location = ? where experiment_id = ?"
BELOW = "update {0} set {1} = ? || substr({1}, ?) where substr({1}, 1, ?) = ?"
PLACES = (  # what lies below an experiment's artifacts
    BELOW.format("runs", "artifact_uri"),
    BELOW.format("logged_models", "artifact_location"),
    BELOW.format("model_versions", "storage_location"),
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
                before = f"{old}/"
                for update in PLACES:
                    store.execute(update, (f"{new}/", len(before) + 1, len(before), before))
