"""Run folders projected into MLflow.

`Projection.update` may be called at any time and any number of times: it sends what the folder has and
the store has not. So the same function serves a run under way, a resumed one and `microgpt sync`. Who
calls it holds the folder by `one_sends`: two would both send what neither has seen in the store.
"""

import json
import math
from collections.abc import Callable, Mapping
from getpass import getuser
from typing import TYPE_CHECKING, Any

from microgpt.run.folder import OUTCOME, RunFolder
from microgpt.run.identity import choices
from microgpt.run.record import FAILED, FINISHED, KILLED, RUNNING, STOPPED, Record
from microgpt.run.sweep import SweepFolder, sweep_folder
from microgpt.tracking.artifacts import Parents, send_files
from microgpt.tracking.store import cut, one_sends

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run

STATUS = {
    RUNNING: "RUNNING",
    FINISHED: "FINISHED",
    FAILED: "FAILED",
    STOPPED: "KILLED",  # on purpose
    KILLED: "FAILED",
}
BATCH = 1000  # metrics and params a call: the store's limit
PARAMS = 100  # params or tags a call, likewise


def run_of(
    client: "MlflowClient",
    folder: Record,
    experiment: str,
    first_tags: Callable[[], Mapping[str, str]],
    **new: Any,
) -> "Run":
    """The run of a folder in a store, made with `first_tags` and as `new` says if there is none.

    Of two, made by one call that seemed to fail, one stays.
    """
    name = folder.path.name
    found = list(client.search_runs([experiment], f"tags.`microgpt.id` = '{name}'"))
    for twin in found[1:]:
        client.delete_run(twin.info.run_id)
    if not found:
        tags = {"microgpt.id": name, "mlflow.user": _user(), "mlflow.source.type": "LOCAL"}
        tags |= {"mlflow.source.name": "microgpt train"} | dict(first_tags())
        found = [client.create_run(experiment, tags=tags, **new)]
    run: Run = found[0]
    if folder.mlflow_run_id != run.info.run_id:
        folder.mlflow_run_id = run.info.run_id
    return run


class Projection:
    """One run folder in one store. A status that is final is sent last: it says that all is there."""

    def __init__(
        self,
        client: "MlflowClient",
        folder: RunFolder,
        experiment: str,
        parents: Parents | None = None,
    ) -> None:
        self.client, self.folder = client, folder
        self._parents = parents or Parents()
        info = folder.info
        self._begun = float(info["begun"])
        self._is_new = False  # whether the store has nothing but what the run is made with
        self._run = run_of(
            client,
            folder,
            experiment,
            lambda: self._first_tags(info, experiment),
            start_time=round(self._begun * 1000),
            run_name=info["name"],
        )
        self.run_id = str(self._run.info.run_id)
        self._final = self._run.info.status, self._run.info.end_time
        self.complete = False  # whether the store has all, and the run is over
        self._read = 0  # bytes of the metrics
        self._sent: int | None = None  # the last step that the store has
        self._params: list[Param] = []  # to be sent with the first metrics

    def update(self) -> None:
        """Send what the store has not; once the run is over, its files and its status too."""
        status = self.folder.status  # first: what comes after it is for the next update
        over = status != RUNNING
        final = STATUS[status], round(self.folder.ended * 1000)
        if over and final == self._final and self._has_tags(status):
            self.complete = True
            return
        if self._sent is None:
            self._prepare(status)
        self._send_metrics()
        if over:
            self._send_tags(status)
            parents = self._parents
            send_files(self.client, self.folder, self._run, parents, is_new=self._is_new)
            self.client.set_terminated(self.run_id, *final)
            self._final, self.complete = final, True

    def _first_tags(self, info: Mapping[str, Any], experiment: str) -> dict[str, str]:
        """What a run is made with, beside its tags: the commit, and the run of its sweep."""
        self._is_new = True
        tags = tags_of(info, self.folder.status)
        if "commit" in info["git"]:
            tags["mlflow.source.git.commit"] = info["git"]["commit"]
        for sweep in list(info.get("sweeps", {}))[:1]:
            folder = sweep_folder(self.folder.path.parent.parent, sweep)
            if folder.exists:
                tags["mlflow.parentRunId"] = self._parent(folder, experiment)
        return tags

    def _parent(self, sweep: SweepFolder, experiment: str) -> str:
        """The id of a sweep's run."""
        if sweep.path not in self._parents.runs:
            with one_sends(sweep):  # to this store, not another
                run = sweep_run(self.client, sweep, experiment)
            self._parents.runs[sweep.path] = str(run.info.run_id)
        return self._parents.runs[sweep.path]

    def _has_tags(self, status: str) -> bool:
        return tags_of(self.folder.info, status).items() <= self._run.data.tags.items()

    def _prepare(self, status: str) -> None:
        """What is known of a run from the beginning; and a resumed run is under way again."""
        from mlflow.entities import Param

        if status == RUNNING and self._run.info.status != STATUS[RUNNING]:
            self.client.update_run(self.run_id, STATUS[RUNNING])
        self._send_dataset()
        self._send_tags(status)
        self._params = [Param(*pair) for pair in params_of(self.folder.config).items()]
        self._sent = 0 if self._is_new else self._last_step()

    def _last_step(self) -> int:
        """The last step that the store has: it would keep a second value beside the first."""
        names = self._run.data.metrics
        histories = [self.client.get_metric_history(self.run_id, name) for name in names]
        return max([int(metric.step) for history in histories for metric in history], default=0)

    def _send_dataset(self) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        data = self.folder.info["data"]
        if "digest" not in data:  # they could not be read
            return
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
        given = [DatasetInput(dataset, [use])]
        try:
            self.client.log_inputs(self.run_id, datasets=given)
        except MlflowException:  # another process may have inserted the same dataset meanwhile
            self.client.log_inputs(self.run_id, datasets=given)

    def _send_tags(self, status: str) -> None:
        from mlflow.entities import RunTag

        tags, there = tags_of(self.folder.info, status), self._run.data.tags
        for key in there.keys() & set(OUTCOME) - tags.keys():
            self.client.delete_tag(self.run_id, key)  # it was true before the run was resumed
            del there[key]
        new = [RunTag(key, tags[key]) for key in tags if there.get(key) != tags[key]]
        if new:
            self.client.log_batch(self.run_id, tags=new)
        there.update(tags)

    def _send_metrics(self) -> None:
        """In whole rows: the last step that the store has is there with all its figures."""
        while len(self._params) > PARAMS:
            self.client.log_batch(self.run_id, params=self._params[:PARAMS])
            del self._params[:PARAMS]
        batch: list[Metric] = []
        read = self._read
        for row, end in self.folder.metrics_from(read):
            metrics = self._metrics(row)
            if len(self._params) + len(batch) + len(metrics) > BATCH:
                self._send_batch(batch, read)
                batch = []
            batch += metrics
            read = end
        self._send_batch(batch, read)

    def _send_batch(self, batch: "list[Metric]", read: int) -> None:
        if batch or self._params:
            self.client.log_batch(self.run_id, metrics=batch, params=self._params)
        self._read, self._params = read, []

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


def params_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Every leaf that the run may depend on; a class stands under its group's name.

    `trainer.stop_after` is left out: it may change when a run is resumed, and a param may not.
    """
    params = {}
    for key, value in choices(config).items():
        if key != "trainer.stop_after":
            name = key.removesuffix("._target_")
            params[name] = cut(str(value).rpartition(".")[2] if name != key else str(value))
    return params


def tags_of(info: Mapping[str, Any], status: str) -> dict[str, str]:
    """What to find and to judge a run by."""
    tags = {key: str(info[key]) for key in ("signature", "source", "n_params") if key in info}
    tags |= {f"sweep.{sweep}": arm for sweep, arm in info.get("sweeps", {}).items()}
    tags |= info.get("swept", {})
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


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a user id that no name belongs to
        return "unknown"


def sweep_run(client: "MlflowClient", folder: Record, experiment: str) -> "Run":
    """A sweep's run in a store, which is made if need be."""
    info = folder.info
    tags = {
        "sweep.id": folder.path.name,
        "sweep.signature": info["signature"],
        "source": info["source"],
    }
    if info["experiment"]:
        tags["sweep.experiment"] = info["experiment"]
    begun = round(info["begun"] * 1000)
    new = {"start_time": begun, "run_name": info["name"]}
    return run_of(client, folder, experiment, lambda: tags, **new)
