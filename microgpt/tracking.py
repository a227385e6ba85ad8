"""Run folders projected into MLflow: the one place that writes to a store.

`Projection.update` may be called at any time and any number of times: it sends what the folder has and
the store has not. So the same function serves a run under way, a resumed one and `microgpt sync`.
"""

import fcntl
import json
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import TYPE_CHECKING, Any

from microgpt.run.folder import FAILED, FINISHED, RUNNING, STOPPED, RunFolder
from microgpt.run.identity import question

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "microgpt"  # the MLflow experiment of runs that name none
STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", STOPPED: "KILLED", RUNNING: "RUNNING"}
BATCH = 1000  # metrics a call: the store's limit
PARAMS = 100  # params a call, likewise


def store_uri(uri: str | None, outputs: Path) -> str:
    """The store: the one asked for, MLFLOW_TRACKING_URI, or a database in `outputs`."""
    default = f"sqlite:///{outputs.absolute() / 'mlflow.db'}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default


def open_store(uri: str, outputs: Path) -> "MlflowClient":
    """A client of the store, which is set up first where it is new.

    Several processes that set up one database together leave it broken: a lock lets one do it.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # a later call tries again
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import mlflow  # late: it takes longer than a small run's first hundred steps

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    client = mlflow.MlflowClient(uri)
    with _only_one(outputs):
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: "MlflowClient", name: str, uri: str, outputs: Path) -> str:
    """The experiment `name`, made if need be; its artifacts lie in `outputs` if the store is a file."""
    with _only_one(outputs):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = uri.startswith("sqlite:")
        place = (outputs.absolute() / "artifacts" / name).as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=place))


def set_view(client: "MlflowClient", experiment: str, key: str, state: Mapping[str, Any]) -> None:
    """Keep a view of MLflow's UI under `key`, as the UI itself does when a view is shared."""
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{key}", json.dumps(state))


class Projection:
    """One run folder in one store."""

    def __init__(self, client: "MlflowClient", folder: RunFolder, experiment: str) -> None:
        self.client, self.folder = client, folder
        self.run_id = self._run(experiment)
        self._sent = self._last_step()

    def update(self) -> None:
        """Send the figures that the store has not; once the run is over, its files and status too."""
        self._send_metrics()
        status = self.folder.info["status"]
        if status == RUNNING:
            return
        self._send_tags()
        for file in sorted(self.folder.path.iterdir()):
            if not file.name.startswith("."):
                log = self.client.log_artifacts if file.is_dir() else self.client.log_artifact
                log(self.run_id, str(file), *([file.name] if file.is_dir() else []))
        self.client.set_terminated(self.run_id, STATUS[status], self._ended())

    def reopen(self) -> None:
        """Show the run as under way again, after a resume."""
        self.client.update_run(self.run_id, "RUNNING")

    def _run(self, experiment: str) -> str:
        """The id of the folder's run in the store, which is made if it is not there."""
        info = self.folder.info
        query = f"tags.`microgpt.id` = '{info['id']}'"
        found = self.client.search_runs([experiment], query, max_results=1)
        if found:
            run_id = str(found[0].info.run_id)
        else:
            tags = {"microgpt.id": info["id"], "mlflow.user": os.environ.get("USER", "unknown")}
            begun = round(info["begun"] * 1000)
            run = self.client.create_run(experiment, begun, tags, info["name"])
            run_id = str(run.info.run_id)
        self.folder.update(mlflow_run_id=run_id)
        self._send_params(run_id)
        self._send_dataset(run_id, info["data"])
        self.run_id = run_id
        self._send_tags()
        return run_id

    def _send_params(self, run_id: str) -> None:
        from mlflow.entities import Param

        params = [Param(key, value) for key, value in params_of(self.folder.config).items()]
        for i in range(0, len(params), PARAMS):
            self.client.log_batch(run_id, params=params[i : i + PARAMS])

    def _send_dataset(self, run_id: str, data: Mapping[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput

        profile = {key: value for key, value in data.items() if isinstance(value, int)}
        dataset = Dataset(
            name=data["name"],
            digest=data["digest"][:32],
            source_type="local",
            source=json.dumps({"documents": "documents.txt"}),
            schema=json.dumps({"vocabulary": data["vocabulary"]}),
            profile=json.dumps(profile),
        )
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset)])

    def _send_tags(self) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in tags_of(self.folder.info).items()]
        self.client.log_batch(self.run_id, tags=tags)

    def _send_metrics(self) -> None:
        from mlflow.entities import Metric

        rows = [row for row in self.folder.metrics() if row["step"] > self._sent]
        now = round(time.time() * 1000)
        batch: list[Metric] = []
        for row in rows:
            step = int(row["step"])
            # SQL stores turn NaN and infinity into numbers that would lead a table.
            metrics = [
                Metric(key, value, now, step)
                for key, value in row.items()
                if key != "step" and math.isfinite(value)
            ]
            if len(batch) + len(metrics) > BATCH:
                self.client.log_batch(self.run_id, metrics=batch)
                self._sent, batch = batch[-1].step, []
            batch += metrics
        if batch:
            self.client.log_batch(self.run_id, metrics=batch)
            self._sent = batch[-1].step

    def _last_step(self) -> int:
        """The last step that the store has: it would keep a second value beside the first."""
        names = self.client.get_run(self.run_id).data.metrics
        histories = [self.client.get_metric_history(self.run_id, name) for name in names]
        steps = [int(metric.step) for history in histories for metric in history]
        return max(steps, default=0)

    def _ended(self) -> int:
        return int(self.folder.info["ended"] * 1000)


class MLflow:
    """Tracks a run in MLflow beside the training, on a thread of its own.

    The training never waits for the store: a store that is down or slow makes its figures late,
    and `finish` or `microgpt sync` sends them.
    """

    PAUSE = 1.0  # seconds between two updates

    def __init__(self, *, uri: str | None, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment
        self.problem: str | None = None
        self._over = Flag()

    def start(self, folder: RunFolder, outputs: Path) -> None:
        """Begin to send what `folder` gets."""
        self.store = store_uri(self.uri, outputs)
        self._thread = Thread(target=self._work, args=(folder, outputs), daemon=True)
        self._thread.start()

    def finish(self) -> str | None:
        """Send the rest. Returns what went wrong, if anything did."""
        self._over.set()
        self._thread.join()
        return self.problem

    def _work(self, folder: RunFolder, outputs: Path) -> None:
        projection: Projection | None = None
        while True:
            over = self._over.wait(self.PAUSE if projection or self.problem else 0)
            try:
                if projection is None:
                    projection = project(folder, self.store, self.experiment, outputs)
                else:
                    projection.update()
                self.problem = None
            except Exception as error:  # whatever a store may raise: the run must go on
                self.problem = f"{self.store}: {str(error).splitlines()[0]}"
            if over:
                return


class NoTracking:
    """The run folder is all there is."""

    def start(self, folder: RunFolder, outputs: Path) -> None:
        """Nothing to begin."""

    def finish(self) -> str | None:
        """Nothing to send."""
        return None


def project(folder: RunFolder, uri: str, experiment: str, outputs: Path) -> Projection:
    """Bring a store up to date with a run folder."""
    client = open_store(uri, outputs)
    projection = Projection(client, folder, experiment_id(client, experiment, uri, outputs))
    if folder.info["status"] == RUNNING:
        projection.reopen()
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
            params[name] = str(value).rpartition(".")[2] if name != key else str(value)
    return params


def tags_of(info: Mapping[str, Any]) -> dict[str, str]:
    """What to find and to judge a run by."""
    tags = {key: str(info[key]) for key in ("signature", "source", "n_params")}
    tags |= {f"fingerprint.{key}": value for key, value in info["fingerprint"].items()}
    tags |= {f"data.{key}": str(value) for key, value in info["data"].items()}
    tags |= {f"git.{key}": value for key, value in info["git"].items()}
    for key in ("parameters_sha256", "stopped_at", "failed_at", "reason"):
        if info.get(key) is not None:
            tags[key] = str(info[key])
    if info.get("description"):
        tags["mlflow.note.content"] = info["description"]
    return tags


@contextmanager
def _only_one(outputs: Path) -> Iterator[None]:
    """Holds a lock beside the default store, until the block ends."""
    outputs.mkdir(parents=True, exist_ok=True)
    with (outputs / ".store.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync(folders: Sequence[RunFolder], uri: str | None, outputs: Path) -> Iterator[str]:
    """Project run folders, each into the store of its configuration or `uri`; yields a line each."""
    for folder in folders:
        wanted = folder.config["tracking"]
        store = store_uri(uri or wanted.get("uri"), outputs)
        projection = project(folder, store, wanted.get("experiment", EXPERIMENT), outputs)
        yield f"{folder.path.name}  {folder.info['status']}  MLflow {projection.run_id}"
