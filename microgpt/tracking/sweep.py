"""A sweep projected into MLflow: a run that its jobs' runs stand below, and a view of them."""

from typing import TYPE_CHECKING, Any

from microgpt.run.record import RUNNING
from microgpt.run.sweep import SweepFolder
from microgpt.tracking.projection import STATUS, params_of, sweep_run
from microgpt.tracking.store import cut
from microgpt.tracking.view import set_sweep_view, view_address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000  # runs a query: more might take a server longer than it is waited for


class SweepProjection:
    """One sweep's folder in one store. A status that is final is sent last."""

    def __init__(self, client: "MlflowClient", folder: SweepFolder, experiment: str) -> None:
        self.client, self.folder, self.experiment = client, folder, experiment
        run = sweep_run(client, folder, experiment)
        self.run_id = str(run.info.run_id)
        self._final = run.info.status, run.info.end_time
        self._shown = ""  # the status that we have sent
        self.complete = False  # whether the store has all, and the sweep is over

    def update(self) -> None:
        """Send what the store has not; once the sweep is over, its status too."""
        status = self.folder.status
        final = STATUS[status], round(self.folder.ended * 1000)
        if status != RUNNING and final == self._final:
            self.complete = True
            return
        if not self._shown:
            self._describe()
        if status == self._shown:
            return
        if status == RUNNING:
            self.client.update_run(self.run_id, STATUS[RUNNING])
        else:
            self.client.set_terminated(self.run_id, *final)
            self._final, self.complete = final, True
        self._shown = status

    def statuses(self) -> dict[str, str]:
        """The status of each run that the store has of the sweep, by the name of its folder."""
        return statuses(self.client, self.experiment, self.folder.path.name)

    def _describe(self) -> None:
        """What is known of a sweep from the beginning."""
        info = self.folder.info
        lasting = {key: value for key, value in info.items() if key not in ("status", "ended")}
        self.client.log_dict(self.run_id, lasting, "sweep.json")
        tags = self.client.get_run(self.run_id).data.tags
        if "mlflow.note.content" not in tags:  # a report may stand there
            self.client.set_tag(
                self.run_id, "mlflow.note.content", cut(description(info, self.experiment))
            )
        set_sweep_view(self.client, self.experiment, info)


def statuses(client: "MlflowClient", experiment: str, sweep: str) -> dict[str, str]:
    """The status of each run of a sweep, by the name of its folder.

    A database is asked for just these: MLflow would load all that it has of each run, which takes
    half a minute for 10,000. `_tracking_client` is internal to the pinned MLflow.
    """
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import select
    from sqlalchemy.orm import aliased

    store = client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        found = members(client, experiment, sweep)
        return {run.data.tags["microgpt.id"]: run.info.status for run in found}
    mark, name = aliased(SqlTag), aliased(SqlTag)
    query: Any = (
        select(name.value, SqlRun.status)
        .join(mark, mark.run_uuid == SqlRun.run_uuid)
        .join(name, name.run_uuid == SqlRun.run_uuid)
        .where(mark.key == f"sweep.{sweep}", name.key == "microgpt.id")
        .where(SqlRun.experiment_id == int(experiment), SqlRun.lifecycle_stage == "active")
    )
    with store.ManagedSessionMaker() as session:
        return {str(run): str(status) for run, status in session.execute(query)}


def members(client: "MlflowClient", experiment: str, sweep: str) -> "list[Run]":
    """The runs of a sweep, by the one tag that they have in common."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [experiment], f"tags.`sweep.{sweep}` != ''", max_results=PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def description(info: dict[str, Any], experiment: str) -> str:
    """A sweep in Markdown: what it is for, its runs, what it varies; then what its jobs share.

    The UI shows some five lines, and the others when it is asked.
    """
    runs = f"[{len(info['jobs'])} runs, by arm]({view_address('', experiment, info['id'])})"
    about = f"{info['description']}: {runs}" if info["description"] else runs
    varied = [f"- `{key}` {', '.join(values)}" for key, values in info["grid"].items()]
    keys = {key.replace("/", ".") for key in info["grid"]}
    shared = {key: value for key, value in params_of(info["config"]).items() if key not in keys}
    width = max(map(len, shared))
    block = [f"{key:<{width}}  {value}" for key, value in shared.items()]
    asked = (info["ablation"] or {}).get("question")
    question = [f"Question: {asked}", ""] if asked else []
    lines = [about, "", *varied, "", *question, "The same for all:", "", "```", *block, "```"]
    return "\n".join(lines)
