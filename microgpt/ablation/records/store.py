"""Reads a sweep and its runs from the MLflow store alone.

The parent run has the artifact sweep.json with the list of jobs; the runs have the tag `sweep.<id>`.
So a job without a run is detected as missing.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from microgpt.ablation.records.sweep import DAMAGED, MISSING, Arm, Run, Sweep
from microgpt.core.check import BadValue
from microgpt.protocol.section import FIGURES
from microgpt.run.documents import DOCUMENTS, from_lines
from microgpt.run.facts import SWEEP_FACTS, SWEEP_OTHERS
from microgpt.run.held_out import HELD_OUT, HeldOut, held_out_of
from microgpt.run.reading import (
    KEYS,
    TEXTS,
    BadRecord,
    check,
    decoded,
    json_of,
    read_bytes,
    row_of,
    yaml_of,
)
from microgpt.run.record import FINISHED
from microgpt.terminal import complain
from microgpt.tracking import database_file, facts_of, open_store, problem, store_uri
from microgpt.tracking.artifacts import PARENT, SHARED, shared_documents
from microgpt.tracking.find import members
from microgpt.tracking.owner import status_of
from microgpt.trust import Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Stored

SWEEP = "sweep.json"
STORED_SWEEP = {
    key: SWEEP_FACTS[key] for key in ("id", "signature", "source", "name", "jobs", "config")
}


def client_of(uri: str | None, outputs: Path) -> "tuple[MlflowClient, str]":
    """A client of an existing store, and the store's address. Raises BadValue."""
    store = store_uri(uri, outputs)
    file = database_file(store)
    if file is not None and not file.is_file():
        raise BadValue("uri", store, "no store there; `microgpt train -m` makes the first sweep")
    try:
        return open_store(store, outputs), store
    except Exception as error:  # whatever a store may raise
        raise BadValue("uri", store, problem(error)) from error


def read_sweep(client: "MlflowClient", parent: "Stored", trust: Trust) -> Sweep:
    """Reads the sweep of a parent run with all its runs. Raises BadValue, BadRecord.

    A run with a damaged file is named on standard error, and has no result.
    """
    run_id = str(parent.info.run_id)
    spec, protocol = spec_of(client, parent)
    with TemporaryDirectory() as place:
        stored = _members(client, str(parent.info.experiment_id), spec["id"])
        jobs = [job | {"seed": _seed(job, spec["config"])} for job in spec["jobs"]]
        runs = [_run(client, job, stored.get(job["run"], []), place) for job in jobs]
        documents = _documents(client, stored, place)
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(run.arm, []).append(run)
    keys = ("id", "signature", "source", "name", "experiment", "description", "ablation", "config")
    facts: dict[str, Any] = {key: spec.get(key) for key in keys}
    part = str((spec.get("ablation") or {}).get("part"))
    figure = FIGURES.get(part, FIGURES["validation"])
    return Sweep(
        **facts,
        arms=tuple(Arm(name, own[0].differs, tuple(own), figure) for name, own in arms.items()),
        overrides=spec.get("overrides", ()),
        config_dir=spec.get("config_dir"),
        protocol=protocol,
        parent=run_id,
        documents=documents,
        trust=trust,
    )


def spec_of(
    client: "MlflowClient", parent: "Stored"
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The record of a sweep, and its protocol if it has one. Raises BadValue, BadRecord."""
    run_id = str(parent.info.run_id)
    with TemporaryDirectory() as place:
        said = artifact(client, parent, SWEEP, place)
    if said is None:
        raise BadValue("sweep", run_id, f"its run has no {SWEEP}: it was not written to its end")
    spec = json_of(said, f"{SWEEP} of {run_id}")
    check(spec, f"{SWEEP} of {run_id}", STORED_SWEEP, SWEEP_OTHERS)
    frozen = spec.get("protocols", [])
    return spec, next((one for one in frozen if one["digest"] == spec.get("protocol")), None)


def _seed(job: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """A job's seed; that of the base configuration if seeds are not swept."""
    return int(config["seed"] if job.get("seed") is None else job["seed"])


def _members(client: "MlflowClient", home: str, sweep: str) -> "dict[str, list[Stored]]":
    """Name of the run folder -> its runs in the store, the latest first."""
    found: dict[str, list[Any]] = {}
    for run in members(client, home, sweep):
        found.setdefault(run.data.tags.get("microgpt.id", ""), []).append(run)
    return found


def _run(
    client: "MlflowClient", job: Mapping[str, Any], found: "Sequence[Stored]", place: str
) -> Run:
    """A job with its finished run, if there is one."""
    differs = {key: str(value) for key, value in job["differs"].items() if key != "seed"}
    known = {key: job[key] for key in ("name", "arm", "seed")} | {"differs": differs}
    known |= {key: job.get(key, "") for key in ("signature", "source")}
    if not found:
        return Run(status=MISSING, **known)
    best = next((run for run in found if run.info.status == "FINISHED"), found[0])
    status = status_of(best)
    if status != FINISHED:
        return Run(status=status, tags=best.data.tags, **known)
    try:
        return _finished(client, best, known, place)
    except BadRecord as error:
        complain(f"run {job['name']}: the store's {error}")
        return Run(status=DAMAGED, tags={"reason": str(error)}, **known)


def _finished(
    client: "MlflowClient", stored: "Stored", known: Mapping[str, Any], place: str
) -> Run:
    """A finished run with its files. Raises BadRecord.

    Raises BadValue if its final metrics are not those of the store.
    """
    names = METRICS, CONFIG, SAMPLES, FACTS = (
        "metrics.jsonl",
        "config.yaml",
        "samples.txt",
        "run.json",
    )
    files = {name: artifact(client, stored, name, place) for name in names}
    for name in (METRICS, CONFIG, SAMPLES):
        if files[name] is None:
            raise BadValue("run", known["name"], f"its artifact {name} is not in the store")
    rows = [row_of(line, METRICS) for line in (files[METRICS] or b"").splitlines()]
    last = {key: value for row in rows for key, value in row.items() if key != "step"}
    metrics = {key: value for key, value in last.items() if not key.startswith("cost/")}
    for key, value in metrics.items():
        if stored.data.metrics.get(key) != value:
            other = stored.data.metrics.get(key)
            problem = f"{key} is {other} in the store and {value} in its metrics.jsonl"
            raise BadValue("run", known["name"], problem)
    samples = files[SAMPLES] or b""
    info = json_of(files[FACTS] or b"{}", FACTS)
    check(info, FACTS, {}, {"source_files": TEXTS, "fingerprint": TEXTS, "data": KEYS})
    return Run(
        status=FINISHED,
        tags=facts_of(info) | stored.data.tags,
        metrics=metrics,
        rows=rows,
        config=yaml_of(files[CONFIG] or b"", CONFIG),
        samples_sha256=sha256(samples).hexdigest(),
        samples=tuple(from_lines(decoded(samples, SAMPLES))),
        held_out=_held_out(client, stored, place) if "test/loss" in metrics else None,
        source_files=info.get("source_files", {}),
        ended=stored.info.end_time / 1000,
        **known,
    )


def _held_out(client: "MlflowClient", stored: "Stored", place: str) -> HeldOut | None:
    """The nats of a run's test documents, if it kept them. Raises BadRecord."""
    content = artifact(client, stored, HELD_OUT, place)
    return None if content is None else held_out_of(content, HELD_OUT)


def _documents(
    client: "MlflowClient", members: "Mapping[str, Sequence[Stored]]", place: str
) -> tuple[str, ...] | None:
    """The documents, if all runs have the same and kept them."""
    runs = [run for found in members.values() for run in found]
    if len({run.data.tags.get("data.digest") for run in runs}) != 1:
        return None
    finished = [run for run in runs if run.info.status == "FINISHED"]
    if not finished:
        return None
    shared = documents_of(client, finished[0], place)
    content = Path(shared).read_bytes() if shared else None
    content = content or artifact(client, finished[0], DOCUMENTS, place)
    return None if content is None else tuple(from_lines(decoded(content, DOCUMENTS)))


def documents_of(client: "MlflowClient", run: "Stored", place: str) -> str | None:
    """The documents that a run's sweep holds for it, as a file below `place`; None if it has none."""
    shared = shared_documents(run)
    if shared is None:
        return None
    from mlflow.exceptions import MlflowException

    parent = run.data.tags[PARENT]
    try:
        there = [file.path for file in client.list_artifacts(parent, SHARED)]
    except MlflowException:  # the sweep's run is no more
        return None
    return client.download_artifacts(parent, shared, place) if shared in there else None


def artifact(client: "MlflowClient", run: "Stored", name: str, place: str) -> bytes | None:
    """The content of an artifact at the root of a run; None if it does not exist."""
    from mlflow.artifacts import download_artifacts

    run_id = str(run.info.run_id)
    folder = Path(place) / run_id
    folder.mkdir(exist_ok=True)
    # By its address, since the client would query the store twice for a run's id.
    address = f"{run.info.artifact_uri}/{name}"
    try:
        path = download_artifacts(
            artifact_uri=address, dst_path=str(folder), tracking_uri=client.tracking_uri
        )
    except Exception:  # each kind of artifact store has its own exceptions
        if any(file.path == name for file in client.list_artifacts(run_id)):
            raise
        return None
    return read_bytes(Path(path))
