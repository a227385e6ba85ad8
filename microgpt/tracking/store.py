"""MLflow stores: which one, how it is opened, set up once, and what it complains of."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.core.check import BadValue
from microgpt.run.record import Record
from microgpt.tracking.moved import follow

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks"}
DATABASE = "mlflow.db"  # in the outputs
LONGEST = 6000  # characters of a param or tag: the store's limit
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a later update tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two lines a run, else
}


class StoreError(RuntimeError):
    """What a store answered instead of doing what it was asked for: one line."""


def store_uri(uri: str | None, outputs: Path) -> str:
    """The store: the one asked for, MLFLOW_TRACKING_URI, or a database in `outputs`."""
    asked = check_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or None)
    return _absolute(asked or _default(outputs))


def _default(outputs: Path) -> str:
    return f"sqlite:///{outputs.absolute() / DATABASE}"


def _absolute(uri: str) -> str:
    """A database's file by its whole path: it may be opened when the process is elsewhere."""
    before, local, path = uri.partition("sqlite:///")
    relative = local and path and not path.startswith(("/", ":"))
    return f"{before}{local}{Path(path).absolute()}" if relative else uri


def check_uri(uri: str | None) -> str | None:
    """`uri`, if it may be that of a server or a database. Raises BadValue."""
    known = isinstance(uri, str) and uri.partition(":")[0].partition("+")[0] in SCHEMES
    if uri is not None and not ((known and "/" in uri) or uri == "databricks"):
        allowed = "must be http://SERVER, sqlite:////FILE or another database (or null)"
        raise BadValue("uri", uri, allowed)
    return uri


def open_store(uri: str, outputs: Path) -> "MlflowClient":
    """A client of the store, which is set up first where it is new."""
    mlflow = imported()
    with _alone(uri, outputs):
        _set_up(uri)
        if uri == _default(outputs):
            follow(outputs / DATABASE, outputs)
        client: MlflowClient = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)  # now it has been opened
    return client


def imported() -> Any:
    """MLflow, with our settings: late, since it takes longer than a small run."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import mlflow

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return mlflow


def _set_up(uri: str) -> None:
    """A new SQLite database, made beside and renamed: half of one could never be opened again."""
    from mlflow import MlflowClient

    _, local, path = uri.partition("sqlite:///")
    file = Path(path.partition("?")[0])
    if local and not file.exists():
        beside = file.with_name(f".{file.name}.new")
        beside.unlink(missing_ok=True)
        MlflowClient(f"{local}{beside}").search_experiments(max_results=1)
        beside.replace(file)


def experiment_id(client: "MlflowClient", name: str, uri: str, outputs: Path) -> str:
    """The experiment `name`, made if need be; a database's artifacts lie in `outputs`."""
    with _alone(uri, outputs):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None if _is_server(uri) else (outputs.absolute() / "artifacts" / name).as_uri()
        return str(client.create_experiment(name, artifact_location=place))


@contextmanager
def _alone(uri: str, outputs: Path) -> Iterator[None]:
    """Hold a lock beside a database: processes that set one up together leave it broken."""
    if _is_server(uri):
        yield
        return
    _, local, file = uri.partition("sqlite:///")
    lock = Path(f"{file}.lock") if local else outputs / ".store.lock"
    if local and Path(file).is_file() and not os.access(lock.parent, os.W_OK):
        yield  # an archive, which nobody sets up
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock):
        yield


def one_sends(folder: Record) -> AbstractContextManager[None]:
    """Be the one who sends what a folder has; of a folder that is no more, OSError."""
    return locked(folder.path / ".mlflow.lock")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which stays."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:", "databricks"))


def told(uri: str, error: Exception) -> str:
    """What went wrong with a store, in a line."""
    if "Connection refused" in str(error):
        return f"{uri}: nothing answers there"
    return f"{uri}: {' '.join(str(error).split())[:200] or type(error).__name__}"


def cut(text: str) -> str:
    """`text`, or as much of it as a store takes."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
