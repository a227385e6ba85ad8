"""A sweep projected into MLflow: a run that its jobs' runs stand below, and a view of them."""

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from microgpt.run.record import FINISHED, RUNNING
from microgpt.run.sweep import SweepFolder
from microgpt.tracking.projection import STATUS, params_of, sweep_run
from microgpt.tracking.store import cut
from microgpt.tracking.view import set_sweep_view, view_address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE = 10.0  # seconds that a server is asked for runs of other sweeps
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
        """The status of each run that the store has of the sweep, by the name of its folder.

        What another sweep has finished elsewhere, and no folder here knows of, joins this one.
        """
        found = statuses(self.client, self.experiment, self.folder.path.name)
        jobs = {job["run"]: job for job in self.folder.jobs}
        unknown = [n for n in jobs if n not in found and not self.folder.run(jobs[n]).exists]
        for name, run_id in finished(self.client, self.experiment, unknown).items():
            self._adopt(jobs[name], run_id)
            found[name] = STATUS[FINISHED]
        return found

    def _adopt(self, job: Mapping[str, Any], run_id: str) -> None:
        """Tag another sweep's run as a job of this one; what it is tagged with stays."""
        from mlflow.entities import RunTag

        there = self.client.get_run(run_id).data.tags
        tags = job["tags"] | {f"sweep.{self.folder.path.name}": job["arm"]}
        new = [RunTag(key, str(tags[key])) for key in tags if key not in there]
        self.client.log_batch(run_id, tags=new)

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
    """The status of each run of a sweep, by the name of its folder."""
    if (answer := _asked(client, experiment, sweep=sweep)) is not None:
        return {name: status for name, _, status in answer}
    found = members(client, experiment, sweep)
    return {run.data.tags["microgpt.id"]: run.info.status for run in found}


def finished(client: "MlflowClient", experiment: str, names: Sequence[str]) -> dict[str, str]:
    """The ids of finished runs, by the names of their folders; a server is asked only for a while."""
    if (answer := _asked(client, experiment, names=names)) is not None:
        return {name: run_id for name, run_id, status in answer if status == STATUS[FINISHED]}
    deadline = monotonic() + PATIENCE
    found: dict[str, str] = {}
    for name in names:
        if monotonic() > deadline:
            break
        question = f"tags.`microgpt.id` = '{name}' and attributes.status = '{STATUS[FINISHED]}'"
        for run in client.search_runs([experiment], question, max_results=1):
            found[name] = str(run.info.run_id)
    return found


def _asked(
    client: "MlflowClient", experiment: str, sweep: str = "", names: Sequence[str] = ()
) -> list[tuple[str, str, str]] | None:
    """Folder's name, id and status of the runs of a sweep, or of those `names`; None from a server.

    A database is asked for just these: MLflow would load all that it has of each run, which takes
    half a minute for 10,000. `_tracking_client` is internal to the pinned MLflow.
    """
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import select
    from sqlalchemy.orm import aliased

    store = client._tracking_client.store
    if not isinstance(store, SqlAlchemyStore):
        return None
    name, mark = aliased(SqlTag), aliased(SqlTag)
    query: Any = (
        select(name.value, SqlRun.run_uuid, SqlRun.status)
        .join(name, name.run_uuid == SqlRun.run_uuid)
        .where(SqlRun.experiment_id == int(experiment), SqlRun.lifecycle_stage == "active")
        .where(name.key == "microgpt.id")
    )
    if sweep:
        query = query.join(mark, mark.run_uuid == SqlRun.run_uuid)
        queries = [query.where(mark.key == f"sweep.{sweep}")]
    else:
        parts = [names[i : i + PAGE] for i in range(0, len(names), PAGE)]
        queries = [query.where(name.value.in_(part)) for part in parts]
    with store.ManagedSessionMaker() as session:
        return [(str(a), str(b), str(c)) for each in queries for a, b, c in session.execute(each)]


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
