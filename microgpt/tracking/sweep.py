"""A sweep projected into MLflow: a run that its jobs' runs stand below, and a view of them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED, RUNNING
from microgpt.run.sweep import SweepFolder
from microgpt.terminal import counted, span
from microgpt.tracking.find import PAGE, members
from microgpt.tracking.labels import params_of
from microgpt.tracking.owner import FOLDER, NAME, STATUS, final, is_own, sweep_run
from microgpt.tracking.store import cut, database_of
from microgpt.tracking.view import set_sweep_view, view_address

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SPEC, PROTOCOL = "sweep.json", "protocol.json"  # artifacts
NOTE = "mlflow.note.content"  # the tag that MLflow's UI shows as a run's description
REPORTED = "\n\n---\n\n"  # in a description, between the sweep and its report
ALIVE = "sweep.alive"  # a tag: when the sweep was last known to be under way, in seconds since 1970
BEAT = 60.0  # seconds from one such sign to the next
SILENT = 300.0  # seconds without one, after which nobody is thought to be there
PATIENCE = 10.0  # seconds that a server is asked for runs of other sweeps


class SweepProjection:
    """One sweep's folder in one store. A status that is final is sent last."""

    def __init__(self, client: "MlflowClient", folder: SweepFolder, experiment: str) -> None:
        self.client, self.folder, self.experiment = client, folder, experiment
        self._run = sweep_run(client, folder, experiment)
        self.run_id = str(self._run.info.run_id)
        self._is_own = is_own(self._run, folder)
        self._final = self._run.info.status, self._run.info.end_time
        self._shown = ""  # the status that we have sent
        self._version: tuple[int, ...] = ()  # of the record, when it was compared last
        self._told = ""  # the digest of what we have sent of the record, which may grow
        self._alive = 0.0  # when the store was last told that the sweep is under way
        self.complete = False  # whether the store has all, and the sweep is over

    def update(self) -> None:
        """Send what the store has not; once the sweep is over, its status too."""
        status = self.folder.status
        end = None if status == RUNNING else final(self.folder, status)
        if not self._is_own or (end == self._final and self._is_whole()):
            self.complete = True
            return
        if self._describe() or status != self._shown:
            self._show(status)
        if status == self._shown == RUNNING and time() - self._alive > BEAT:
            self._beat()
        if status == self._shown:
            return
        if end is None:
            self._beat()
            self.client.update_run(self.run_id, STATUS[RUNNING])
        else:
            self.client.set_terminated(self.run_id, *end)
            self._final, self.complete = end, True
        self._shown = status

    def stored(self) -> dict[str, tuple[str, str]]:
        """The runs that the store has of the sweep: their id -> their folder's name, their status.

        What another sweep has finished elsewhere, and no folder here knows of, joins this one.
        """
        found = stored(self.client, self.experiment, self.folder.path.name)
        names = {name for name, _ in found.values()}
        jobs = {job["run"]: job for job in self.folder.jobs}
        unknown = [n for n in jobs if n not in names and not self.folder.run(jobs[n]).exists]
        for name, run_id in finished(self.client, self.experiment, unknown).items():
            self._adopt(jobs[name], run_id)
            found[run_id] = name, STATUS[FINISHED]
        return found

    def elsewhere(self) -> dict[str, int]:
        """How many of the jobs are under way in other folders, by machine and path.

        Only of sweeps that give a sign of life: others may have been killed with their machine.
        """
        names = {job["run"] for job in self.folder.jobs}
        running = f"attributes.status = '{STATUS[RUNNING]}'"
        found = {}
        for other in self._search(f"tags.`sweep.id` != '' and {running}"):
            beaten = float(other.data.tags.get(ALIVE, 0.0))
            if other.info.run_id == self.run_id or time() - beaten > SILENT:
                continue
            runs = self._search(f"tags.`mlflow.parentRunId` = '{other.info.run_id}' and {running}")
            count = sum(run.data.tags.get(NAME) in names for run in runs)
            if count:
                found[other.data.tags[FOLDER]] = count
        return found

    def _search(self, query: str) -> "list[Run]":
        return list(self.client.search_runs([self.experiment], query))

    def _beat(self) -> None:
        """Tell that the sweep is under way."""
        self._alive = time()
        self.client.set_tag(self.run_id, ALIVE, f"{self._alive:.0f}")

    def _adopt(self, job: Mapping[str, Any], run_id: str) -> None:
        """Tag another sweep's run as a job of this one; what it is tagged with stays."""
        from mlflow.entities import RunTag

        there = self.client.get_run(run_id).data.tags
        tags = job["tags"] | {f"sweep.{self.folder.path.name}": job["arm"]}
        new = [RunTag(key, str(tags[key])) for key in tags if key not in there]
        self.client.log_batch(run_id, tags=new)

    def _is_whole(self) -> bool:
        """Whether a store that says how the sweep ended has what describes it."""
        files = self.client.list_artifacts(self.run_id)
        return NOTE in self._run.data.tags and SPEC in [f.path for f in files]

    def _describe(self) -> bool:
        """Sends what is known of a sweep and the store does not know; whether there was any."""
        if (version := self.folder.version) == self._version:
            return False
        info = self.folder.info
        lasting = {key: value for key, value in info.items() if key not in ("status", "ended")}
        told = sha256(json.dumps(lasting).encode()).hexdigest()  # the record itself may be large
        if told == self._told:
            self._version = version
            return False
        self.client.log_dict(self.run_id, lasting, SPEC)
        if protocol := self.folder.protocol:
            self.client.log_dict(self.run_id, protocol, PROTOCOL)
            for key in ("digest", "time"):
                self.client.set_tag(self.run_id, f"protocol.{key}", protocol[key])
        note = self.client.get_run(self.run_id).data.tags.get(NOTE, "")
        new = with_report(description(info, self.experiment), note.partition(REPORTED)[2])
        if new != note:
            self.client.set_tag(self.run_id, NOTE, new)
        self._version, self._told = version, told
        return True

    def _show(self, status: str) -> None:
        """Keeps the view of the sweep.

        A run that was stopped, and one that is trained again, would be in the mean of its arm. How
        runs ended may be sent after how the sweep did, so that the folders are asked what is finished.
        """
        is_whole = status in (RUNNING, FINISHED) and not self._has_others()
        only_finished = not is_whole and any(map(self._is_finished, self.folder.jobs))
        set_sweep_view(self.client, self.experiment, self.folder.info, only_finished)

    def _has_others(self) -> bool:
        """Whether the store has a run of the sweep that is not finished."""
        query = f"tags.`sweep.{self.folder.path.name}` != '' AND "
        query += f"attributes.status != '{STATUS[FINISHED]}'"
        return bool(self.client.search_runs([self.experiment], query, max_results=1))

    def _is_finished(self, job: Mapping[str, Any]) -> bool:
        run = self.folder.run(job)
        with suppress(BadRecord):
            return run.exists and run.status == FINISHED
        return False


def stored(client: "MlflowClient", experiment: str, sweep: str) -> dict[str, tuple[str, str]]:
    """The runs of a sweep: their id -> the name of their folder, their status."""
    if (answer := _asked(client, experiment, sweep=sweep)) is not None:
        return {run_id: (name, status) for name, run_id, status in answer}
    found = members(client, experiment, sweep)
    return {run.info.run_id: (run.data.tags[NAME], run.info.status) for run in found}


def finished(client: "MlflowClient", experiment: str, names: Sequence[str]) -> dict[str, str]:
    """The ids of finished runs, by the names of their folders; a server is asked only for a while."""
    if (answer := _asked(client, experiment, names=names)) is not None:
        return {name: run_id for name, run_id, status in answer if status == STATUS[FINISHED]}
    deadline = monotonic() + PATIENCE
    found: dict[str, str] = {}
    for name in names:
        if monotonic() > deadline:
            break
        question = f"tags.`{NAME}` = '{name}' and attributes.status = '{STATUS[FINISHED]}'"
        for run in client.search_runs([experiment], question, max_results=1):
            found[name] = str(run.info.run_id)
    return found


def _asked(
    client: "MlflowClient", experiment: str, sweep: str = "", names: Sequence[str] = ()
) -> list[tuple[str, str, str]] | None:
    """Folder's name, id and status of the runs of a sweep, or of those `names`; None from a server.

    A database is asked for just these: MLflow would load all that it has of each run, which takes
    half a minute for 10,000.
    """
    if (store := database_of(client)) is None:
        return None
    from mlflow.store.tracking.dbmodels.models import SqlRun, SqlTag
    from sqlalchemy import select
    from sqlalchemy.orm import aliased

    name, mark = aliased(SqlTag), aliased(SqlTag)
    query: Any = (
        select(name.value, SqlRun.run_uuid, SqlRun.status)
        .join(name, name.run_uuid == SqlRun.run_uuid)
        .where(SqlRun.experiment_id == int(experiment), SqlRun.lifecycle_stage == "active")
        .where(name.key == NAME)
    )
    if sweep:
        query = query.join(mark, mark.run_uuid == SqlRun.run_uuid)
        queries = [query.where(mark.key == f"sweep.{sweep}")]
    else:
        parts = [names[i : i + PAGE] for i in range(0, len(names), PAGE)]
        queries = [query.where(name.value.in_(part)) for part in parts]
    with store.ManagedSessionMaker() as session:
        return [(str(a), str(b), str(c)) for each in queries for a, b, c in session.execute(each)]


def about(note: str) -> str:
    """What a sweep's description says of it, without the report below."""
    return note.partition(REPORTED)[0]


def with_report(about: str, report: str) -> str:
    """A sweep's description with its report below it."""
    return cut(f"{about}{REPORTED}{report}" if report else about)


def description(info: dict[str, Any], experiment: str) -> str:
    """A sweep in Markdown: what it is for, its runs, what it varies; then what its jobs share.

    The UI shows some five lines, and the others when it is asked.
    """
    runs = (
        f"[{counted(len(info['jobs']), 'run')}, by arm]({view_address('', experiment, info['id'])})"
    )
    about = f"{info['description']}: {runs}" if info["description"] else runs
    grid = info["grid"] | ({"seed": [span(info["grid"]["seed"])]} if "seed" in info["grid"] else {})
    varied = [f"- `{key}` {', '.join(values)}" for key, values in grid.items()]
    keys = {key.replace("/", ".") for key in info["grid"]}
    shared = {key: value for key, value in params_of(info["config"]).items() if key not in keys}
    width = max(map(len, shared))
    block = [f"{key:<{width}}  {value}" for key, value in shared.items()]
    if judged := info.get("judged"):
        about += f"; {judged['answer']}: {judged['word']}, after {judged['pairs']} pairs"
    asked = (info["ablation"] or {}).get("question")
    question = [f"Question: {asked}", ""] if asked else []
    lines = [about, "", *varied, "", *question, "The same for all:", "", "```", *block, "```"]
    return "\n".join(lines)
