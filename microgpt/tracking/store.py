"""MLflow stores: how one is opened, set up once, and what it complains of."""

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.run.locks import lock
from microgpt.run.record import Record
from microgpt.secret import blackened, restored
from microgpt.tracking.address import (
    DATABASE,
    check_experiment,
    database_file,
    file_uri,
    is_server,
    own_database,
)
from microgpt.tracking.moved import follow

if TYPE_CHECKING:
    from mlflow import MlflowClient

AUTOFLUSH = re.compile(r"\(raised as a result of .*?\)")  # SQLAlchemy's advice for programmers
LONGEST = 6000  # characters of a param or tag: the store's limit
PROBE = 5  # seconds that a server is given to say that it is there
BROKEN = 500  # and above: what HTTP calls errors of the server
MEANINGS = {  # what an error of the network has in it -> what it means
    "Connection refused": "nothing answers there",
    "Read timed out": "no answer in time",
    "ConnectTimeoutError": "no answer in time",
    "NameResolutionError": "no such host",
    "Max retries exceeded": "it cannot be reached",
}
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a later update tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "PGCONNECT_TIMEOUT": "10",  # else a PostgreSQL that hangs is waited for without an end
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # a line a file, else
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run, else
}


class StoreError(RuntimeError):
    """What a store answered instead of doing what it was asked for: one line."""


def open_store(uri: str, outputs: Path) -> "MlflowClient":
    """A client of the store, which is set up first where it is new."""
    mlflow = imported()
    with _alone(uri, outputs):
        _set_up(uri)
        if uri == own_database(outputs):
            follow(outputs / DATABASE, outputs)
        client: MlflowClient = mlflow.MlflowClient(restored(uri))
        if is_server(uri):
            probe(client)
        client.search_experiments(max_results=1)  # now it has been opened
    return client


def probe(client: "MlflowClient") -> None:
    """Raises what a store raises that does not answer; a server is given little time to."""
    if database_of(client) is not None:
        client.search_experiments(max_results=1)
        return
    from mlflow.utils.rest_utils import http_request

    host = client._tracking_client.store.get_host_creds()
    health: Any = http_request(host, "/health", "GET", timeout=PROBE, max_retries=0)  # type: ignore[no-untyped-call]
    code = health.status_code
    if code >= BROKEN:
        raise StoreError(f"it answers with an error (HTTP {code})")


def let_go(client: "MlflowClient") -> None:
    """Close the files and connections of a client, which opens others when it is used again."""
    if (store := database_of(client)) is not None:
        store.engine.dispose()


def database_of(client: "MlflowClient") -> Any:
    """MLflow's store of a client if that is a database, else None. Internal to the pinned MLflow."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    return store if isinstance(store, SqlAlchemyStore) else None


def imported() -> Any:
    """MLflow, with our settings: late, since it takes longer than a small run."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import mlflow

    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it logs the errors that it raises
    return mlflow


def _set_up(uri: str) -> None:
    """A new SQLite database, made beside and renamed: half of one could never be opened again."""
    from mlflow import MlflowClient

    file = database_file(uri)
    if file is not None and not file.exists():
        beside = file.with_name(f".{file.name}.new")
        beside.unlink(missing_ok=True)
        MlflowClient(file_uri(beside)).search_experiments(max_results=1)
        beside.replace(file)


def experiment_id(client: "MlflowClient", name: str, uri: str, outputs: Path) -> str:
    """The experiment `name`, made if need be; a database's artifacts lie in `outputs`.

    Raises BadValue for a name that leads out of them: it may be of a folder that somebody else wrote.
    """
    check_experiment(name)
    with _alone(uri, outputs):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None if is_server(uri) else (outputs.absolute() / "artifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=place))


@contextmanager
def _alone(uri: str, outputs: Path) -> Iterator[None]:
    """Hold a lock beside a database: processes that set one up together leave it broken."""
    if is_server(uri):
        yield
        return
    file = database_file(uri)
    beside = file.with_name(f"{file.name}.lock") if file else outputs / ".store.lock"
    if file and file.is_file() and not os.access(beside.parent, os.W_OK):
        yield  # an archive, which nobody sets up
        return
    beside.parent.mkdir(parents=True, exist_ok=True)
    with locked(beside):
        yield


def one_sends(folder: Record) -> AbstractContextManager[None]:
    """Be the one who sends what a folder has; of a folder that is no more, OSError. Raises BadRecord."""
    folder.check_files()
    return locked(folder.path / ".mlflow.lock")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which stays."""
    with path.open("a") as file:  # not "w": it may be a link
        lock(file, fcntl.LOCK_EX)
        yield


def told(uri: str, error: BaseException) -> str:
    """What went wrong with a store, in a line."""
    return f"{uri}: {problem(error)}"


def problem(error: BaseException) -> str:
    """What an error of a store says, in a line, without statements and advice for programmers."""
    for sign, meaning in MEANINGS.items():
        if sign in str(error):
            return meaning
    text = blackened(str(error)).partition("[SQL: ")[0].partition("(Background on ")[0]
    return " ".join(AUTOFLUSH.sub("", text).split())[:200] or type(error).__name__


def cut(text: str) -> str:
    """`text`, or as much of it as a store takes."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
