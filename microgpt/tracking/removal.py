"""Removes the runs of folders from their stores."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from microgpt.core.check import BadValue
from microgpt.run.record import Record
from microgpt.tracking.address import database_file, store_uri
from microgpt.tracking.owner import NAME, goes_with
from microgpt.tracking.store import database_of, open_store, problem
from microgpt.tracking.sync import Folder, is_tracked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True)
class Stored:
    """A folder's run in a store."""

    client: "MlflowClient"
    run: "Run"

    @property
    def artifacts(self) -> Path | None:
        """The folder of its artifacts, where that is on this machine."""
        address = urlparse(self.run.info.artifact_uri)
        place = Path(unquote(address.path))
        # MLflow's own layout, so that no other folder is ever meant.
        is_its = place.name == "artifacts" and place.parent.name == self.run.info.run_id
        return (
            place.parent if address.scheme in ("", "file") and is_its and place.is_dir() else None
        )

    def remove(self) -> None:
        """Removes it for good from a database; a server keeps it until `mlflow gc` is run there."""
        run_id = str(self.run.info.run_id)
        self.client.delete_run(run_id)
        database = database_of(self.client)
        if database is not None:
            if folder := self.artifacts:
                shutil.rmtree(folder)
            database._hard_delete_run(run_id)


def stored_of(folders: list[Folder], outputs: Path) -> list[Stored]:
    """The runs that these folders have in their stores. Raises BadValue for a store that fails.

    outputs  whose store one has that lies in no outputs
    """
    found: list[Stored] = []
    clients: dict[str, MlflowClient | None] = {}
    for folder in folders:
        if not is_tracked(folder):
            continue
        home = folder.outputs or outputs
        store = store_uri(folder.config["tracking"].get("uri"), home)
        try:
            if store not in clients:
                file = database_file(store)
                is_there = file is None or file.is_file()
                clients[store] = open_store(store, home) if is_there else None
            client = clients[store]
            found += [Stored(client, run) for run in _own(client, folder)] if client else []
        except Exception as error:  # whatever a store may raise
            raise BadValue("uri", store, problem(error)) from error
    return found


def _own(client: "MlflowClient", folder: Record) -> "list[Run]":
    """The runs that belong to a folder; of one that was made longer, that of its shorter self too."""
    query = f"tags.`{NAME}` = '{folder.path.name}'"
    homes = [str(there.experiment_id) for there in client.search_experiments()]
    return [run for run in client.search_runs(homes, query) if goes_with(client, run, folder)]
