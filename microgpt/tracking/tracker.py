"""Sends what folders get to a store, beside the work and without ever holding it up."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from microgpt.core.check import BadValue
from microgpt.run.folder import RunFolder
from microgpt.run.sweep import SweepFolder
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import (
    StoreError,
    check_uri,
    experiment_id,
    open_store,
    store_uri,
    told,
)
from microgpt.tracking.sweep import SweepProjection
from microgpt.tracking.view import view_address

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "microgpt"  # the MLflow experiment of runs that name none
PAUSE = 1.0  # seconds between two updates
Folder: TypeAlias = RunFolder | SweepFolder


class Store:
    """A store that is opened when it is first needed, and the folders that are projected into it."""

    def __init__(self, uri: str, outputs: Path) -> None:
        self.uri, self.outputs = uri, outputs
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    def project(self, folder: Folder, experiment: str) -> Projection | SweepProjection:
        """The folder's run in the store, which is made if need be."""
        if self._client is None:
            self._client = open_store(self.uri, self.outputs)
        if experiment not in self._experiments:
            found = experiment_id(self._client, experiment, self.uri, self.outputs)
            self._experiments[experiment] = found
        kind = SweepProjection if isinstance(folder, SweepFolder) else Projection
        return kind(self._client, folder, self._experiments[experiment])  # type: ignore[arg-type]


class Sending:
    """One folder on its way to a store."""

    def __init__(self, store: Store, folder: Folder, experiment: str) -> None:
        self.store, self.folder, self.experiment = store, folder, experiment
        self.projection: Projection | SweepProjection | None = None
        self.problem: str | None = None
        self.met = Flag()  # the store has the folder's run, or has failed to
        self.last = Flag()  # what is sent from now on is the last that is waited for
        self.over = Flag()  # all is there, or the last could not be sent

    def go_on(self) -> None:
        """Send what there is."""
        last = self.last.is_set()
        try:
            if self.projection is None:
                self.projection = self.store.project(self.folder, self.experiment)
            self.met.set()
            self.projection.update()
            self.problem = None
        except Exception as error:  # whatever a store may raise: the work must go on
            self.problem = told(self.store.uri, error)
        self.met.set()
        if (last and self.problem) or (self.projection and self.projection.complete):
            self.over.set()


class Sender:
    """The thread of a process that sends to one store; it lives while there is something to send."""

    _all: ClassVar[dict[str, "Sender"]] = {}
    _lock: ClassVar[Lock] = Lock()

    def __init__(self, store: Store) -> None:
        self.store = store
        self.wake = Flag()
        self._sendings: list[Sending] = []

    @classmethod
    def to(cls, uri: str, outputs: Path) -> "Sender":
        """The one that sends to the store `uri`."""
        with cls._lock:
            return cls._all.setdefault(uri, cls(Store(uri, outputs)))

    @classmethod
    def all(cls) -> "list[Sender]":
        """Those of this process."""
        with cls._lock:
            return list(cls._all.values())

    def flush(self, patience: float) -> str | None:
        """Send all that is under way a last time, within so many seconds. Returns what went wrong."""
        deadline = monotonic() + patience
        with self._lock:
            sendings = list(self._sendings)
        for sending in sendings:
            sending.last.set()
        self.wake.set()
        for sending in sendings:
            if not sending.over.wait(max(0.0, deadline - monotonic())):
                return f"{self.store.uri}: no end within {patience:g} s"
        return next((each.problem for each in sendings if each.problem), None)

    def add(self, folder: Folder, experiment: str) -> Sending:
        """Send what `folder` has, and gets."""
        sending = Sending(self.store, folder, experiment)
        with self._lock:
            self._sendings.append(sending)
            if len(self._sendings) == 1:
                Thread(target=self._work, name="tracking", daemon=True).start()
        self.wake.set()
        return sending

    def _work(self) -> None:
        while True:
            self.wake.clear()
            for sending in list(self._sendings):
                sending.go_on()
            with self._lock:
                self._sendings = [each for each in self._sendings if not each.over.is_set()]
                if not self._sendings:
                    return
            self.wake.wait(PAUSE)


class MLflow:
    """Tracks a run, or a sweep, in MLflow beside the work, on a thread of its own.

    The work never waits for the store: a store that is down or slow makes its figures late,
    and `finish` or `microgpt sync` sends them.
    """

    PATIENCE = 30.0  # seconds that the end of a run waits for the store

    def __init__(self, *, uri: str | None, experiment: str) -> None:
        if not isinstance(experiment, str) or not experiment:
            raise BadValue("experiment", experiment, "must be a name")
        check_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or None)
        self.uri, self.experiment = uri, experiment

    def start(self, folder: Folder, outputs: Path) -> None:
        """Begin to send what `folder` gets."""
        self._sender = Sender.to(store_uri(self.uri, outputs), outputs)
        self._sending = self._sender.add(folder, self.experiment)

    def stored(self, patience: float) -> dict[str, str]:
        """The status of each run of a sweep, as far as the store tells it within so many seconds."""
        sending, answer = self._sending, SimpleQueue[dict[str, str]]()

        def ask() -> None:
            sending.met.wait(patience)
            if isinstance(sending.projection, SweepProjection):
                with suppress(Exception):  # whatever a store may raise: `finish` says that it did
                    return answer.put(sending.projection.statuses())
            return answer.put({})

        Thread(target=ask, name="asking", daemon=True).start()  # an answer may take minutes
        try:
            return answer.get(timeout=patience)
        except Empty:
            return {}

    def look(self) -> str | None:
        """What shows the sweep: the address on a server, or the command that starts one."""
        uri, projection = self._sender.store.uri, self._sending.projection
        if not isinstance(projection, SweepProjection):
            return None
        sweep = projection.folder.path.name
        if uri.startswith(("http:", "https:")):
            return view_address(uri.rstrip("/"), projection.experiment, sweep)
        usual = uri == store_uri(None, self._sender.store.outputs)
        return f"microgpt ui {sweep}" if usual else f"microgpt ui {sweep} --uri {uri}"

    def finish(self) -> str | None:
        """Send the rest. Returns what went wrong, if anything did."""
        return self._sender.flush(self.PATIENCE)


class NoTracking:
    """The folder is all there is."""

    def start(self, folder: Folder, outputs: Path) -> None:
        """Nothing to begin."""

    def stored(self, patience: float) -> dict[str, str]:
        """No store knows of any run."""
        return {}

    def look(self) -> str | None:
        """Nowhere."""
        return None

    def finish(self) -> str | None:
        """Nothing to send."""
        return None


def flush(patience: float) -> None:
    """Send all that this process has under way, within so many seconds for each store."""
    for sender in Sender.all():
        sender.flush(patience)


def sync(folders: Sequence[Folder], uri: str | None, outputs: Path) -> Iterator[str]:
    """Project folders, each into the store of its configuration or `uri`; yields a line each.

    Raises StoreError in the end if there are any that a store did not take.
    """
    failed = 0
    stores: dict[str, Store] = {}
    for folder in folders:
        wanted = folder.config["tracking"]
        address = store_uri(uri or wanted.get("uri"), outputs)
        store = stores.setdefault(address, Store(address, outputs))
        try:
            projection = store.project(folder, wanted.get("experiment", EXPERIMENT))
            projection.update()
            yield f"{folder.path.name}  {folder.status}  MLflow {projection.run_id}"
        except Exception as error:  # the other runs may have other stores
            failed += 1
            yield f"{folder.path.name}  {folder.status}  {told(address, error)}"
    if failed:
        raise StoreError(f"{failed} of {len(folders)} runs are not all in MLflow")


def is_tracked(folder: Folder) -> bool:
    """Whether the configuration wants it in a store."""
    return "experiment" in folder.config["tracking"]
