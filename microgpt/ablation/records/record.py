"""Reads the record of a run from a store: metrics, tags and files."""

import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.records.store import client_of, documents_of
from microgpt.core.check import BadValue
from microgpt.run.documents import DOCUMENTS
from microgpt.run.folder import Ambiguous, NoSuchRun, RunFolder, find_run
from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED
from microgpt.terminal import complain
from microgpt.tracking import cut, database_file, params_of, store_uri, tags_of, told
from microgpt.tracking.find import find_best, find_runs
from microgpt.tracking.owner import NAME

if TYPE_CHECKING:
    from mlflow.entities import Run

IDENTITY = ("signature", "source", "n_params", "parameters_sha256", "failed_at")
FILES = ("config.yaml", "run.json", "metrics.jsonl")  # required
UNREPEATED = ("cost/", "system/")  # clock times, and how busy the machine was
BEST = "/best"  # after the name of a sweep
ID = re.compile(r"[\w.-]+")
Series = dict[str, list[tuple[int, float]]]  # metric -> (step, value) pairs of the database


@dataclass(frozen=True)
class Record:
    """A run in a store."""

    store: "Store"
    run: "Run"
    folder: RunFolder  # a temporary copy of its files
    series: Series

    @property
    def name(self) -> str:
        """The run's id and its MLflow id, for messages."""
        return f"{self.run.data.tags['microgpt.id']} (MLflow {self.run.info.run_id})"

    def is_under_way(self) -> bool:
        """Whether the run is trained again, or has been since this was read, as the store has it."""
        now = self.store.find(self.run.info.run_id).info
        return (now.status, now.end_time) != (self.run.info.status, self.run.info.end_time)

    def contradictions(self) -> Iterator[str]:
        """Lines about the store's params and tags that contradict the run's files."""
        tags, info = self.run.data.tags, self.folder.info
        for key, value in params_of(self.folder.config, info.get("swept", {})).items():
            if key != "engine" and self.run.data.params.get(key) != value:
                there = self.run.data.params.get(key, "nothing")
                yield f"param {key}: the store says {there}, config.yaml {value}"
        facts: dict[str, object] = {key: info.get(key) for key in IDENTITY}
        facts |= {k: fact for k, fact in tags_of(info, FINISHED).items() if k.startswith("data.")}
        for key, fact in facts.items():
            tag, here = tags.get(key, "nothing"), "nothing" if fact is None else cut(str(fact))
            if tag != here:
                yield f"{key}: the store's tag says {tag}, run.json {here}"


class Store:
    """Read-only access to a store. An operation that fails raises BadValue with the store's address."""

    def __init__(self, uri: str | None, outputs: Path) -> None:
        self.client, self.uri = client_of(uri, outputs)

    def find(self, reference: str) -> "Run":
        """Finds a run by its MLflow id, its id, or a prefix of an id. Raises NoSuchRun."""
        if not ID.fullmatch(reference):
            raise NoSuchRun(f"{reference}: no id of a run, and no folder of one")
        with self._asked():
            found = find_runs(self.client, reference)
        if len(found) == 1:
            return found[0]
        many = ", ".join(run.info.run_id for run in found[:3])
        problem = f"more than one run is called so ({many}, ...)" if found else "no such run"
        raise NoSuchRun(f"{reference}: {problem} in {self.uri}")

    def series(self, run: "Run") -> Series:
        """The complete history of each metric in the store's database, without what no run repeats.

        All NaN are one object: lists that hold it are equal.
        """
        names = [name for name in run.data.metrics if not name.startswith(UNREPEATED)]
        with self._asked():
            histories = {n: self.client.get_metric_history(run.info.run_id, n) for n in names}
        for name, history in histories.items():
            if not all(isinstance(m.step, int) and isinstance(m.value, float) for m in history):
                allowed = f"metric {name} of {run.info.run_id} has what is no number"
                raise BadValue("uri", self.uri, allowed)
        return {
            name: sorted((m.step, m.value if m.value == m.value else math.nan) for m in history)
            for name, history in histories.items()
        }

    def fetch(self, run: "Run", folder: Path) -> RunFolder:
        """Copies the run's files into `folder`. Raises BadValue if the store lacks one."""
        client, run_id = self.client, run.info.run_id
        with self._asked():
            listed = client.list_artifacts(run_id) + client.list_artifacts(run_id, "checkpoints")
            there = [file.path for file in listed if not file.is_dir]
            (folder / "checkpoints").mkdir()
            with tempfile.TemporaryDirectory(dir=folder) as landing:
                for name in there:  # the path in `landing` depends on the kind of store
                    shutil.move(client.download_artifacts(run_id, name, landing), folder / name)
                if DOCUMENTS not in there and (shared := documents_of(client, run, landing)):
                    shutil.move(shared, folder / DOCUMENTS)
        for name in FILES:
            if name not in there:
                allowed = f"cannot be read again: {self.uri} has no {name} of it"
                raise BadValue("run", run_id, allowed)
        return RunFolder(folder)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of store has its own exceptions
            raise BadValue("uri", self.uri, told(self.uri, error)) from error


@contextmanager
def folder_of(reference: str, uri: str | None, outputs: Path) -> Iterator[RunFolder]:
    """A run's folder; if there is none, a copy from the store. Raises NoSuchRun, BadValue."""
    reference = _best(reference, uri, outputs)
    if folder := _here(reference, uri, outputs):
        yield folder
        return
    with opened(reference, uri, outputs) as record:
        if record.folder.mlflow_run_id != record.run.info.run_id:
            record.folder.mlflow_run_id = record.run.info.run_id
        yield record.folder


def _here(reference: str, uri: str | None, outputs: Path) -> RunFolder | None:
    """The run's folder; None if it may be in a store alone. Raises NoSuchRun."""
    try:
        return find_run(outputs, reference)
    except NoSuchRun:
        database = database_file(store_uri(uri, outputs))
        if database is not None and not database.is_file():
            raise
        return None


def _best(reference: str, uri: str | None, outputs: Path) -> str:
    """The id of the run that `SWEEP/best` names; other names as they are. Raises BadValue."""
    if not reference.endswith(BEST) or Path(reference).is_dir():
        return reference
    client, store = client_of(uri, outputs)
    best = find_best(client, reference.removesuffix(BEST), store)
    return str(best.data.tags[NAME])


@contextmanager
def opened(reference: str, uri: str | None, outputs: Path) -> Iterator[Record]:
    """Opens the record of the run `reference`. Raises NoSuchRun, BadValue."""
    reference = _best(reference, uri, outputs)
    own_id, own_uri = pointed(outputs, reference)
    store = Store(uri or own_uri, outputs)
    run = store.find(own_id)
    if "sweep.signature" in run.data.tags and "n_params" not in run.data.tags:
        raise BadValue("run", reference, "must be a run, but is a sweep; name one of its runs")
    with tempfile.TemporaryDirectory(prefix="microgpt-") as place:
        yield Record(store, run, store.fetch(run, Path(place)), store.series(run))


def pointed(outputs: Path, reference: str) -> tuple[str, str | None]:
    """The id to look for, and the store's address if a run folder names one.

    Of a folder only these are used, so that `verify` depends on the store alone.
    """
    try:
        folder = find_run(outputs, reference)
    except Ambiguous:
        raise
    except NoSuchRun:
        return reference, None
    name = folder.mlflow_run_id or folder.path.name
    try:
        tracking: dict[str, Any] = folder.config["tracking"]
    except BadRecord as error:
        complain(f"{error}; the run is looked for in the usual store")
        return name, None
    return name, tracking.get("uri")
