"""Folders projected into stores, each into its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from microgpt.core.check import BadValue
from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord
from microgpt.run.sweep import SweepFolder
from microgpt.terminal import complain
from microgpt.tracking.address import store_uri
from microgpt.tracking.artifacts import Parents
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import (
    StoreError,
    experiment_id,
    let_go,
    one_sends,
    open_store,
    probe,
    told,
)
from microgpt.tracking.sweep import SweepProjection

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "microgpt"  # the MLflow experiment of runs that name none
Folder: TypeAlias = RunFolder | SweepFolder


class Sent(NamedTuple):
    """What became of a folder."""

    id: str
    status: str | None  # None if it was not sent
    mlflow: str | None  # likewise
    problem: str | None

    def __str__(self) -> str:
        told = (
            f"not sent  {self.problem}" if self.problem else f"{self.status}  MLflow {self.mlflow}"
        )
        return f"{self.id}  {told}"


class Store:
    """A store that is opened when it is first needed, and the folders that are projected into it."""

    def __init__(self, uri: str, outputs: Path) -> None:
        self.uri, self.outputs = uri, outputs
        self._client: MlflowClient | None = None
        self._closed: str | None = None  # why it could not be opened
        self._experiments: dict[str, str] = {}
        self._parents = Parents()

    def silence(self) -> str | None:
        """What is wrong with the store itself where something failed; None if it answers.

        All is asked anew from now on: it may have been replaced by another, or an older one.
        """
        client, self._client = self._client, None
        self._experiments, self._parents = {}, Parents()
        if client is None:
            return self._closed
        try:
            probe(client)
        except Exception as error:  # whatever a store may raise
            return told(self.uri, error)
        finally:
            let_go(client)
        return None

    def _opened(self) -> "MlflowClient":
        try:
            client = open_store(self.uri, self.outputs)
        except Exception as error:
            self._closed = told(self.uri, error)
            raise
        self._closed = None
        return client

    def project(self, folder: Folder, experiment: str) -> Projection | SweepProjection:
        """The folder's run in the store, which is made if need be."""
        if self._client is None:
            self._client = self._opened()
        if experiment not in self._experiments:
            found = experiment_id(self._client, experiment, self.uri, self.outputs)
            self._experiments[experiment] = found
        home = self._experiments[experiment]
        if isinstance(folder, SweepFolder):
            return SweepProjection(self._client, folder, home)
        return Projection(self._client, folder, home, self._parents)


def sync(folders: Sequence[Folder], uri: str | None, outputs: Path) -> Iterator[Sent]:
    """Project folders, each into the store of its configuration or `uri`; yields what became of each.

    Damaged ones are named on standard error. Raises StoreError in the end if there are any that
    a store did not take.
    """
    failed = 0
    stores: dict[str, Store] = {}
    silent: dict[str, str] = {}  # the stores that do not answer: nobody waits for them twice
    for folder in folders:
        address, said = "", None
        try:
            wanted = folder.config["tracking"]
            address = store_uri(uri or wanted.get("uri"), outputs)
            store = stores.setdefault(address, Store(address, outputs))
            said = silent.get(address)
            if not said:
                with one_sends(folder):
                    projection = store.project(folder, wanted.get("experiment", EXPERIMENT))
                    projection.update()
                yield Sent(folder.path.name, folder.status, projection.run_id, None)
        except (BadRecord, BadValue) as error:  # a damaged one; in its configuration, perhaps
            failed += 1
            complain(str(error))
        except Exception as error:  # the other runs may have other stores
            said = told(address, error)
            if problem := stores[address].silence():
                silent[address] = problem
        if said:
            failed += 1
            yield Sent(folder.path.name, None, None, said)
    if failed:
        raise StoreError(f"{failed} of {len(folders)} runs are not all in MLflow")


def is_tracked(folder: Folder) -> bool:
    """Whether the configuration wants it in a store; of one that cannot be read, `sync` tells."""
    try:
        return "experiment" in folder.config["tracking"]
    except BadRecord:
        return True
