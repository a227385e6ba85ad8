"""Run folders projected into MLflow.

`Projection.update` may be called at any time and any number of times: it sends what the folder has and
the store has not. So the same function serves a run under way, a resumed one and `microgpt sync`. Who
calls it holds the folder by `one_sends`: two would both send what neither has seen in the store.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microgpt.run.folder import OUTCOME, RunFolder
from microgpt.run.record import RUNNING
from microgpt.run.sweep import SweepFolder, sweep_folder
from microgpt.tracking.artifacts import (
    PARENT,
    Parents,
    has_files,
    leave_removed,
    send_files,
    send_missing,
)
from microgpt.tracking.datasets import datasets_of
from microgpt.tracking.figures import Figures, Known, has_all, known
from microgpt.tracking.labels import params_of, tags_of
from microgpt.tracking.machine import Machine
from microgpt.tracking.owner import STATUS, final, is_own, run_of, sweep_run
from microgpt.tracking.store import one_sends

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

BATCH = 1000  # metrics and params a call: the store's limit
PARAMS = 100  # params or tags a call, likewise


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
        self._figures = Figures(folder, float(info["begun"]))
        self._is_new = False  # whether the store has nothing but what the run is made with
        self._run = run_of(
            client,
            folder,
            experiment,
            lambda: self._first_tags(info, experiment),
            start_time=round(self._figures.begun * 1000),
            run_name=info["name"],
        )
        self.run_id = str(self._run.info.run_id)
        self._is_own = is_own(self._run, folder)
        if self._is_own:
            leave_removed(client, self._run, self._parents)
        self._final = self._run.info.status, self._run.info.end_time
        self.complete = False  # whether the store has all, and the run is over
        self._known: Known | None = None  # the figures that the store had at the beginning
        self._params: list[Param] = []  # to be sent with the first metrics
        self.machine: Machine | None = None  # of who sends the run beside its work

    def update(self) -> None:
        """Send what the store has not; once the run is over, its files and its status too."""
        status = self.folder.status  # first: what comes after it is for the next update
        end = None if status == RUNNING else final(self.folder, status)
        if not self._is_own or (end == self._final and self._is_whole(status)):
            self.complete = True
            return
        if self._known is None:
            self._prepare(status)
        self._send_metrics(self.machine.metrics(self._figures.begun) if self.machine else [])
        if end:
            self._send_tags(status)
            send = send_missing if end == self._final else send_files
            send(self.client, self.folder, self._run, self._parents)
            if end != self._final:
                self.client.set_terminated(self.run_id, *end)
            self._final, self.complete = end, True

    def _first_tags(self, info: Mapping[str, Any], experiment: str) -> dict[str, str]:
        """What a run is made with, beside its owner's tags: the commit, and the run of its sweep."""
        self._is_new = True
        tags = tags_of(info, self.folder.status)
        if "commit" in info["git"]:
            tags["mlflow.source.git.commit"] = info["git"]["commit"]
        for sweep in list(info.get("sweeps", {}))[:1]:
            folder = sweep_folder(self.folder.path.parent.parent, sweep)
            if folder.exists:
                tags[PARENT] = self._parent(folder, experiment)
        return tags

    def _parent(self, sweep: SweepFolder, experiment: str) -> str:
        """The id of a sweep's run."""
        if sweep.path not in self._parents.runs:
            with one_sends(sweep):  # to this store, not another
                run = sweep_run(self.client, sweep, experiment)
            self._parents.runs[sweep.path] = str(run.info.run_id)
            self._parents.there.add(str(run.info.run_id))
        return self._parents.runs[sweep.path]

    def _is_whole(self, status: str) -> bool:
        """Whether a store that says how the run ended has all that it had then."""
        data = self._run.data
        figures = Figures(self.folder, self._figures.begun)
        return (
            tags_of(self.folder.info, status).items() <= data.tags.items()
            and self._wanted(self.folder.config).keys() <= data.params.keys()
            and has_all(self.client, self._run, figures)
            and has_files(self.client, self.folder, self._run, self._parents)
        )

    def _wanted(self, config: Mapping[str, Any]) -> dict[str, str]:
        """The params that the run should have."""
        return params_of(config, self.folder.info.get("swept", {}))

    def _prepare(self, status: str) -> None:
        """What is known of a run from the beginning; and a resumed run is under way again."""
        from mlflow.entities import Param

        if status == RUNNING and self._run.info.status != STATUS[RUNNING]:
            self.client.update_run(self.run_id, STATUS[RUNNING])
        config = self.folder.config
        self._send_datasets(config["data"])
        self._send_tags(status)
        params = self._wanted(config)
        there = self._run.data.params
        self._params = [Param(key, params[key]) for key in params if key not in there]
        self._known = set() if self._is_new else known(self.client, self._run)
        if not config["tracking"].get("system_metrics"):
            self.machine = None

    def _send_datasets(self, config: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException

        data = self.folder.info["data"]
        if "digest" not in data:  # they could not be read
            return
        given = datasets_of(data, config)
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

    def _send_metrics(self, batch: "list[Metric]") -> None:
        """Behind `batch`, in whole rows: the last step that the store has is there with all its figures."""
        while len(self._params) > PARAMS:
            self.client.log_batch(self.run_id, params=self._params[:PARAMS])
            del self._params[:PARAMS]
        read = self._figures.read
        for metrics, end in self._figures.rows():
            new = [each for each in metrics if (each.key, each.step) not in (self._known or ())]
            if len(self._params) + len(batch) + len(new) > BATCH:
                self._send_batch(batch, read)
                batch = []
            batch += new
            read = end
        self._send_batch(batch, read)

    def _send_batch(self, batch: "list[Metric]", read: int) -> None:
        if batch or self._params:
            # The latest first: MLflow compares each with the latest before, and writes down a later one.
            self.client.log_batch(self.run_id, metrics=batch[::-1], params=self._params)
        self._figures.read, self._params = read, []
