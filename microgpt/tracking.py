"""Run folders projected into MLflow: the one place that writes to a store.

`Projection.update` may be called at any time and any number of times: it sends what the folder has and
the store has not. So the same function serves a run under way, a resumed one and `microgpt sync`.
"""

import fcntl
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any

from microgpt.core.check import BadValue
from microgpt.run.folder import FAILED, FINISHED, KILLED, OUTCOME, RUNNING, STOPPED, RunFolder
from microgpt.run.identity import question

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EXPERIMENT = "microgpt"  # the MLflow experiment of runs that name none
STATUS = {
    RUNNING: "RUNNING",
    FINISHED: "FINISHED",
    FAILED: "FAILED",
    STOPPED: "KILLED",  # on purpose
    KILLED: "FAILED",
}
SCHEMES = {"http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks"}
BATCH = 1000  # metrics a call: the store's limit
PARAMS = 100  # params or tags a call, likewise
LONGEST = 6000  # characters of a param or tag, likewise
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a later update tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class StoreError(RuntimeError):
    """What a store answered instead of doing what it was asked for: one line."""


def store_uri(uri: str | None, outputs: Path) -> str:
    """The store: the one asked for, MLFLOW_TRACKING_URI, or a database in `outputs`."""
    default = f"sqlite:///{outputs.absolute() / 'mlflow.db'}"
    return check_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or None) or default


def check_uri(uri: str | None) -> str | None:
    """`uri`, if it may be that of a server or a database. Raises BadValue."""
    known = isinstance(uri, str) and uri.partition(":")[0].partition("+")[0] in SCHEMES
    if uri is not None and not ((known and "/" in uri) or uri == "databricks"):
        allowed = "must be http://SERVER, sqlite:////FILE or another database (or null)"
        raise BadValue("uri", uri, allowed)
    return uri


def open_store(uri: str, outputs: Path) -> "MlflowClient":
    """A client of the store, which is set up first where it is new."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    import mlflow  # late: it takes longer than a small run's first hundred steps

    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    with _alone(uri, outputs):
        _set_up(uri)
        client = mlflow.MlflowClient(uri)
        client.search_experiments(max_results=1)  # now it has been opened
    return client


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
    with _locked(lock):
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_server(uri: str) -> bool:
    return uri.startswith(("http:", "https:", "databricks"))


def set_view(client: "MlflowClient", experiment: str, key: str, state: Mapping[str, Any]) -> None:
    """Keep a view of MLflow's UI under `key`, as the UI itself does when a view is shared."""
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{key}", json.dumps(state))


class Projection:
    """One run folder in one store. A status that is final is sent last: it says that all is there."""

    def __init__(self, client: "MlflowClient", folder: RunFolder, experiment: str) -> None:
        self.client, self.folder = client, folder
        with _locked(folder.path / ".mlflow.lock"):  # a run under way may be synced, too
            self._run = self._found(experiment) or self._created(experiment)
        self.run_id = str(self._run.info.run_id)
        if folder.mlflow_run_id != self.run_id:
            folder.mlflow_run_id = self.run_id
        self._final = self._run.info.status, self._run.info.end_time
        self._begun = float(folder.info["begun"])
        self._read = 0  # bytes of the metrics
        self._sent: int | None = None  # the last step that the store has

    def update(self) -> None:
        """Send what the store has not; once the run is over, its files and its status too."""
        status = self.folder.status  # first: what comes after it is for the next update
        over = status != RUNNING
        final = STATUS[status], round(self.folder.ended * 1000)
        if over and final == self._final:
            return
        if self._sent is None:
            self._prepare(status)
        self._send_metrics()
        if over:
            self._send_tags(status)
            self._send_files()
            self.client.set_terminated(self.run_id, *final)
            self._final = final

    def _found(self, experiment: str) -> "Run | None":
        """The folder's run in the store. Of two, made by one call that seemed to fail, one stays."""
        query = f"tags.`microgpt.id` = '{self.folder.path.name}'"
        found = self.client.search_runs([experiment], query)
        for twin in found[1:]:
            self.client.delete_run(twin.info.run_id)
        return found[0] if found else None

    def _created(self, experiment: str) -> "Run":
        info = self.folder.info
        tags = {
            "microgpt.id": info["id"],
            "mlflow.user": _user(),
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "microgpt train",
        }
        if "commit" in info["git"]:
            tags["mlflow.source.git.commit"] = info["git"]["commit"]
        return self.client.create_run(experiment, round(info["begun"] * 1000), tags, info["name"])

    def _prepare(self, status: str) -> None:
        """What is known of a run from the beginning; and a resumed run is under way again."""
        if status == RUNNING and self._run.info.status != STATUS[RUNNING]:
            self.client.update_run(self.run_id, STATUS[RUNNING])
        self._send_params()
        self._send_dataset()
        self._send_tags(status)
        self._sent = self._last_step()

    def _last_step(self) -> int:
        """The last step that the store has: it would keep a second value beside the first."""
        names = self._run.data.metrics
        histories = [self.client.get_metric_history(self.run_id, name) for name in names]
        return max([int(metric.step) for history in histories for metric in history], default=0)

    def _send_params(self) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in params_of(self.folder.config).items()]
        for i in range(0, len(params), PARAMS):
            self.client.log_batch(self.run_id, params=params[i : i + PARAMS])

    def _send_dataset(self) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = self.folder.info["data"]
        profile = {key: value for key, value in data.items() if isinstance(value, int)}
        dataset = Dataset(
            name=data["name"],
            digest=data["digest"][:32],
            source_type="local",
            source=json.dumps({"uri": "documents.txt"}),
            schema=json.dumps({"vocabulary": cut(data["vocabulary"])}),
            profile=json.dumps(profile),
        )
        use = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, [use])])

    def _send_tags(self, status: str) -> None:
        from mlflow.entities import RunTag

        tags, there = tags_of(self.folder.info, status), self._run.data.tags
        for key in there.keys() & set(OUTCOME) - tags.keys():
            self.client.delete_tag(self.run_id, key)  # it was true before the run was resumed
            del there[key]
        self.client.log_batch(self.run_id, tags=[RunTag(key, tags[key]) for key in tags])
        there.update(tags)

    def _send_metrics(self) -> None:
        """In whole rows: the last step that the store has is there with all its figures."""
        batch: list[Metric] = []
        read = self._read
        for row, end in self.folder.metrics_from(read):
            metrics = self._metrics(row)
            if len(batch) + len(metrics) > BATCH:
                self._send_batch(batch, read)
                batch = []
            batch += metrics
            read = end
        self._send_batch(batch, read)

    def _send_batch(self, batch: "list[Metric]", read: int) -> None:
        if batch:
            self.client.log_batch(self.run_id, metrics=batch)
        self._read = read

    def _metrics(self, row: Mapping[str, float]) -> "list[Metric]":
        """A row for the store, where it has not got it; the time is the same whenever it is sent.

        SQL stores would turn NaN and infinity into numbers that lead a table.
        """
        from mlflow.entities import Metric

        step = int(row["step"])
        if step <= (self._sent or 0):
            return []
        time = round((self._begun + row.get("cost/seconds", 0.0)) * 1000)
        pairs = [(key, value) for key, value in row.items() if key != "step"]
        return [Metric(key, value, time, step) for key, value in pairs if math.isfinite(value)]

    def _send_files(self) -> None:
        """All files of the folder, but for the checkpoints that are there."""
        there = {
            f.path: f.file_size for f in self.client.list_artifacts(self.run_id, "checkpoints")
        }
        for file in self.folder.files():
            name = file.relative_to(self.folder.path)
            if there.get(name.as_posix()) != file.stat().st_size:
                parent = None if name.parent == Path() else name.parent.as_posix()
                self.client.log_artifact(self.run_id, str(file), parent)


class MLflow:
    """Tracks a run in MLflow beside the training, on a thread of its own.

    The training never waits for the store: a store that is down or slow makes its figures late,
    and `finish` or `microgpt sync` sends them.
    """

    PAUSE = 1.0  # seconds between two updates
    PATIENCE = 30.0  # seconds that the end of a run waits for the store

    def __init__(self, *, uri: str | None, experiment: str) -> None:
        if not isinstance(experiment, str) or not experiment:
            raise BadValue("experiment", experiment, "must be a name")
        check_uri(uri or os.environ.get("MLFLOW_TRACKING_URI") or None)
        self.uri, self.experiment = uri, experiment
        self._problem: str | None = None
        self._over = Flag()

    def start(self, folder: RunFolder, outputs: Path) -> None:
        """Begin to send what `folder` gets."""
        self._store = store_uri(self.uri, outputs)
        self._thread = Thread(
            target=self._work, args=(folder, outputs), name="tracking", daemon=True
        )
        self._thread.start()

    def finish(self) -> str | None:
        """Send the rest. Returns what went wrong, if anything did."""
        self._over.set()
        self._thread.join(self.PATIENCE)
        if self._thread.is_alive():
            return f"{self._store}: no end within {self.PATIENCE:g} s"
        return self._problem

    def _work(self, folder: RunFolder, outputs: Path) -> None:
        projection: Projection | None = None
        over = False
        while not over:
            over = self._over.wait(self.PAUSE if projection or self._problem else 0)
            try:
                if projection is None:
                    projection = connect(folder, self._store, self.experiment, outputs)
                projection.update()
                self._problem = None
            except Exception as error:  # whatever a store may raise: the run must go on
                self._problem = told(self._store, error)


class NoTracking:
    """The run folder is all there is."""

    def start(self, folder: RunFolder, outputs: Path) -> None:
        """Nothing to begin."""

    def finish(self) -> str | None:
        """Nothing to send."""
        return None


def connect(folder: RunFolder, uri: str, experiment: str, outputs: Path) -> Projection:
    """The run folder's run in a store, which is made if need be."""
    client = open_store(uri, outputs)
    return Projection(client, folder, experiment_id(client, experiment, uri, outputs))


def project(folder: RunFolder, uri: str, experiment: str, outputs: Path) -> Projection:
    """Bring a store up to date with a run folder."""
    projection = connect(folder, uri, experiment, outputs)
    projection.update()
    return projection


def params_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf that the run depends on; a class stands under its group's name.

    `trainer.stop_after` is left out: it may change when a run is resumed, and a param may not.
    """
    params = {}
    for key, value in question(config).items():
        if key != "trainer.stop_after":
            name = key.removesuffix("._target_")
            params[name] = cut(str(value).rpartition(".")[2] if name != key else str(value))
    return params


def tags_of(info: Mapping[str, Any], status: str) -> dict[str, str]:
    """What to find and to judge a run by."""
    tags = {key: str(info[key]) for key in ("signature", "source", "n_params")}
    tags |= {f"fingerprint.{key}": value for key, value in info["fingerprint"].items()}
    tags |= {f"data.{key}": str(value) for key, value in info["data"].items()}
    tags |= {f"git.{key}": value for key, value in info["git"].items()}
    tags |= {f"package.{key}": value for key, value in info.get("packages", {}).items()}
    origin = {key: fact for key, fact in info.get("fork", {}).items() if key != "fork"}
    tags |= {f"fork.{key}": str(fact) for key, fact in origin.items() if fact != ""}
    tags |= {key: str(info[key]) for key in OUTCOME[1:] if info.get(key) is not None}
    if status == KILLED:
        tags["reason"] = "its process was killed"
    if info.get("description"):
        tags["mlflow.note.content"] = str(info["description"])
    return {key: cut(value) for key, value in tags.items()}


def told(uri: str, error: Exception) -> str:
    """What went wrong with a store, in a line."""
    if "Connection refused" in str(error):
        return f"{uri}: nothing answers there"
    return f"{uri}: {' '.join(str(error).split())[:200] or type(error).__name__}"


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a user id that no name belongs to
        return "unknown"


def cut(text: str) -> str:
    """`text`, or as much of it as a store takes."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def sync(folders: Sequence[RunFolder], uri: str | None, outputs: Path) -> Iterator[str]:
    """Project run folders, each into the store of its configuration or `uri`; yields a line each.

    Raises StoreError in the end if there are any that a store did not take.
    """
    failed = 0
    for folder in folders:
        wanted = folder.config["tracking"]
        store = store_uri(uri or wanted.get("uri"), outputs)
        try:
            projection = project(folder, store, wanted.get("experiment", EXPERIMENT), outputs)
            yield f"{folder.path.name}  {folder.status}  MLflow {projection.run_id}"
        except Exception as error:  # the other runs may have other stores
            failed += 1
            yield f"{folder.path.name}  {folder.status}  {told(store, error)}"
    if failed:
        raise StoreError(f"{failed} of {len(folders)} runs are not all in MLflow")


def is_tracked(folder: RunFolder) -> bool:
    """Whether the run's configuration wants it in a store."""
    return "experiment" in folder.config["tracking"]
