"""The folder of a run: the authoritative record, from which the MLflow run is derived.

config.yaml      the resolved configuration
run.json         identity and status
metrics.jsonl    one object per logged step
samples.txt      one sample per line
checkpoints/     step-<n>.safetensors
held_out.safetensors
                 nats of every test document under the final weights, if there is a test part
documents.txt    the data, up to 10 MB; a hard link to one file per digest in outputs/data where possible
traceback.txt    the unexpected exception, if any
git.diff         uncommitted changes, if any

Hidden files are not part of the record: the lock, files being written, the run's id in the store.
"""

import json
import os
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from microgpt.core.events import Checkpointed, Event, Metrics, Sampled, Stepped
from microgpt.run.checkpoint import (
    being_written,
    step_of,
    write_all,
    write_checkpoint,
    write_whole,
)
from microgpt.run.documents import DOCUMENTS, from_lines, keep_documents, shared_file, to_lines
from microgpt.run.facts import RUN_FACTS, RUN_OTHERS, SECTIONS
from microgpt.run.reading import (
    BadRecord,
    check,
    read_bytes,
    read_text,
    reading,
    row_of,
    stat_of,
    yaml_of,
)
from microgpt.run.record import RUNNING, Record, begin_of
from microgpt.secret import masked

SHORTEST = 4  # minimum length of an id's prefix
SLACK = 1.0  # seconds that a file system's clock may be behind
OUTCOME = ("ended", "stopped_at", "failed_at", "reason", "parameters_sha256")  # set at the end


class NoSuchRun(LookupError):
    """A reference that does not identify a run."""


class Ambiguous(NoSuchRun):
    """A reference with which the ids of several runs begin."""


class RunFolder(Record):
    """Reads and writes the record of a run; a callback of the trainer. A damaged file raises BadRecord."""

    FILE, REQUIRED, OTHERS = "run.json", RUN_FACTS, RUN_OTHERS
    OURS = (
        *("config.yaml", "metrics.jsonl", "samples.txt", "held_out.safetensors"),
        *(DOCUMENTS, "traceback.txt", "git.diff"),
    )

    @property
    def metrics_path(self) -> Path:
        """The logged steps."""
        return self.path / "metrics.jsonl"

    @property
    def ended(self) -> float:
        """When the run ended, in seconds since 1970; if it was killed, when it last logged a step."""
        return float(self.info.get("ended") or stat_of(self.metrics_path).st_mtime)

    @property
    def signatures(self) -> set[str]:
        """The signature, and those that the run had before a resume changed how far it goes."""
        info = self.info
        return {info["signature"], *info.get("earlier", [])}

    def create(self, config: dict[str, Any], documents: list[str], diff: str, **facts: Any) -> None:
        """Makes the folder, with everything that is known before the first step.

        A run that failed before it began keeps its `uid`: in a store it is the same one.
        """
        is_new = not self.exists
        uid = None if is_new else self.info.get("uid")
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        keep_documents(self.path / DOCUMENTS, documents, shared_file(config, facts))
        texts = {"config.yaml": to_yaml(self._movable(config))}
        texts |= {"git.diff": diff} if diff else {}
        write_all({self.path / name: text.encode() for name, text in texts.items()})
        self.metrics_path.touch()
        facts |= {"id": self.path.name, "uid": uid or uuid4().hex, "status": RUNNING}
        self.begin(**facts)  # last: now the folder is a run
        self.is_new = is_new

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.yaml."""
        file = self.path / "config.yaml"
        config = yaml_of(read_bytes(file), file)
        check(config, file, SECTIONS)
        return config

    def set_config(self, config: dict[str, Any]) -> None:
        """Writes config.yaml."""
        self.write("config.yaml", to_yaml(self._movable(config)))

    def _movable(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration with `paths.outputs` relative to this folder, which may be moved or copied."""
        outputs = config.get("paths", {}).get("outputs")
        if not outputs:
            return config
        place = os.path.relpath(Path(outputs).absolute(), self.path)
        return {**config, "paths": {**config["paths"], "outputs": place}}

    def write(self, name: str, text: str) -> None:
        """Writes a text file, atomically."""
        write_whole(self.path / name, text.encode())

    def __call__(self, event: Event) -> None:
        """Records an event of the trainer."""
        match event:
            case Stepped(metrics=metrics) if metrics:
                with self.metrics_path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": event.step, **metrics}) + "\n")
            case Checkpointed():
                _sync(self.metrics_path)  # the metrics must reach the disk before the checkpoint
                folder = self.path / "checkpoints"
                folder.mkdir(exist_ok=True)  # it may have been deleted with the old ones
                file_name = f"step-{event.step}.safetensors"
                write_checkpoint(folder / file_name, event, self.info["signature"])
            case Sampled():
                self.write("samples.txt", to_lines(event.samples))

    def metrics(self) -> list[Metrics]:
        """The logged steps; a last line that a crash truncated is left out."""
        return [row for row, _ in self.metrics_from(0)]

    def metrics_from(self, offset: int) -> Iterator[tuple[Metrics, int]]:
        """Each logged step from byte `offset` of the file on, with the offset after it."""
        with reading(self.metrics_path) as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield self._row(line, offset), offset + len(line)
                offset += len(line)

    def _row(self, line: bytes, offset: int) -> Metrics:
        """The logged step in the line at byte `offset`."""
        try:
            return row_of(line, self.metrics_path)
        except BadRecord as error:
            number = read_bytes(self.metrics_path)[:offset].count(b"\n") + 1
            raise BadRecord(self.metrics_path, f"line {number} {error.problem}") from error

    @property
    def documents(self) -> list[str] | None:
        """The data that the run was trained on; None if they were too large to keep."""
        file = self.path / DOCUMENTS
        return from_lines(read_text(file)) if file.exists() else None

    def samples(self) -> list[str]:
        """The samples drawn after the last step."""
        file = self.path / "samples.txt"
        return from_lines(read_text(file)) if file.exists() else []

    def files(self) -> list[Path]:
        """All files of the record, for copying to a store."""
        files = [file for file in self.made if not file.name.startswith(".")]
        return sorted(files, key=lambda file: (file.parent != self.path, file.name))

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, the latest first."""
        files = (self.path / "checkpoints").glob("step-*.safetensors")
        steps = [(step, file) for file in files if (step := step_of(file)) is not None]
        return [file for _, file in sorted(steps, reverse=True)]

    @property
    def made(self) -> list[Path]:
        """The files in the folder that we make, run.json first."""
        unfinished = (self.path / "checkpoints").glob(being_written("step-*.safetensors"))
        return [*super().made, *self.checkpoints(), *unfinished]

    def rewind(self, step: int) -> None:
        """Drops the logged steps after `step`, which will be trained again."""
        kept = [end for row, end in self.metrics_from(0) if row["step"] <= step]
        os.truncate(self.metrics_path, max(kept, default=0))


class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a value that occurs twice twice: aliases are not read."""

    def ignore_aliases(self, data: Any) -> bool:
        """Whether `data` is never written as an alias."""
        return True


def to_yaml(config: dict[str, Any]) -> str:
    """A configuration as YAML, without the passwords of its addresses."""
    return masked(yaml.dump(config, Dumper=Dumper, sort_keys=False, allow_unicode=True))


def _sync(path: Path) -> None:
    """Flushes a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def usual_outputs() -> Path:
    """The folder that runs are written to where no configuration says another."""
    return Path(os.environ.get("MICROGPT_OUTPUTS") or "outputs")


def find_run(outputs: Path, reference: str) -> RunFolder:
    """Finds a run by its path, its id, its MLflow id, or a prefix of an id. Raises NoSuchRun."""
    if not reference.strip():  # untracked runs have an empty MLflow id
        raise NoSuchRun(f"{reference!r}: must name a run; `microgpt runs` lists the runs")
    if (Path(reference) / "run.json").is_file():
        return RunFolder(Path(reference))
    runs = [RunFolder(file.parent) for file in sorted(_files(outputs))]
    if exact := [run for run in runs if reference in (run.path.name, run.mlflow_run_id)]:
        return exact[0]
    found = [run for run in runs if len(reference) >= SHORTEST and begins(run, reference)]
    if len(found) == 1:
        return found[0]
    listed = "`microgpt runs` lists the runs"
    if found:
        many = ", ".join(run.path.name for run in found[:3])
        raise Ambiguous(f"{reference}: prefix of more than one run ({many}, ...); {listed}")
    raise NoSuchRun(f"{reference}: no such run or folder; {listed}")


def all_runs(outputs: Path) -> list[RunFolder]:
    """All run folders below `outputs`, the oldest first; damaged ones are the last."""
    return sorted([RunFolder(file.parent) for file in _files(outputs)], key=begin_of)


def latest_runs(outputs: Path, count: int) -> list[RunFolder]:
    """The `count` runs (at least 1) that began last, the oldest first; then the damaged ones.

    A run begins before its run.json is last written. So files are read from the latest on, and most
    of possibly thousands need not be read.
    """
    written = sorted(((file.stat().st_mtime, file) for file in _files(outputs)), reverse=True)
    latest: list[tuple[float, Path]] = []  # a heap of (start time, folder)
    damaged: list[Path] = []
    for time, file in written:
        if len(latest) == count and time + SLACK < latest[0][0]:
            break
        begun = begin_of(RunFolder(file.parent))
        if begun == inf:
            damaged.append(file.parent)
            continue
        heappush(latest, (begun, file.parent))
        if len(latest) > count:
            heappop(latest)
    return [RunFolder(path) for path in [*(path for _, path in sorted(latest)), *damaged]]


def _files(outputs: Path) -> Iterator[Path]:
    return outputs.glob("runs/*/run.json")


def begins(folder: Record, reference: str) -> bool:
    """Whether the id or the MLflow id of a run or a sweep begins so."""
    return any(name.startswith(reference) for name in (folder.path.name, folder.mlflow_run_id))
