"""The folder of a run: the truth about it, which everything else is a projection of.

config.yaml      the resolved configuration
run.json         identity and status
metrics.jsonl    one object a recorded step
samples.txt      one sample a line
checkpoints/     step-<n>.safetensors
documents.txt    the data, up to 10 MB
git.diff         what was not committed, if anything
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from microgpt.core.events import Checkpointed, Event, Sampled, Stepped
from microgpt.run.checkpoint import BadCheckpoint, read_checkpoint, write_checkpoint, write_whole

DOCUMENTS_LIMIT = 10_000_000  # bytes of documents that are kept with a run
RUNNING, FINISHED, FAILED, STOPPED = "running", "finished", "failed", "stopped"


class NoSuchRun(LookupError):
    """A reference that no run folder answers to."""


class BusyRun(RuntimeError):
    """A run folder that another process is training in."""


class RunFolder:
    """Writes what a run says of itself, and reads it back."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.metrics_path = self.path / "metrics.jsonl"

    @property
    def info(self) -> dict[str, Any]:
        """The content of run.json."""
        info: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        return info

    def update(self, **facts: Any) -> None:
        """Change or add facts in run.json."""
        known = self.info if (self.path / "run.json").exists() else {}
        text = json.dumps(known | facts, indent=1, ensure_ascii=False) + "\n"
        write_whole(self.path / "run.json", text.encode())

    def create(
        self, config: dict[str, Any], documents: list[str], git: dict[str, str], **facts: Any
    ) -> None:
        """Make the folder, with everything that is known before the first step."""
        (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.set_config(config)
        text = "".join(f"{document}\n" for document in documents)
        if len(text.encode()) <= DOCUMENTS_LIMIT:
            self.write("documents.txt", text)
        if diff := git.pop("diff", ""):
            self.write("git.diff", diff)
        self.metrics_path.touch()
        self.update(id=self.path.name, git=git, **facts)

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.yaml."""
        text = (self.path / "config.yaml").read_text(encoding="utf-8")
        config: dict[str, Any] = yaml.safe_load(text)
        return config

    def set_config(self, config: dict[str, Any]) -> None:
        """Write config.yaml."""
        self.write("config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def write(self, name: str, text: str) -> None:
        """Write a text file, whole."""
        write_whole(self.path / name, text.encode())

    def __call__(self, event: Event) -> None:
        """Keep what an event tells."""
        match event:
            case Stepped(metrics=metrics) if metrics:
                with self.metrics_path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": event.step, **metrics}) + "\n")
            case Checkpointed():
                write_checkpoint(self.path / f"checkpoints/step-{event.step}.safetensors", event)
            case Sampled():
                # A sample is a line: a document has no line feed in it, whatever else it has.
                self.write("samples.txt", "".join(f"{sample}\n" for sample in event.samples))

    def metrics(self) -> list[dict[str, float]]:
        """The recorded steps; a last line that a crash cut off is left out."""
        lines = self.metrics_path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # what ends in a line feed is whole

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, the latest first."""
        files = (self.path / "checkpoints").glob("step-*.safetensors")
        return sorted(files, key=lambda file: int(file.stem.removeprefix("step-")), reverse=True)

    def last_checkpoint(self) -> Checkpointed | None:
        """The latest state that can be read; None if there is none."""
        for file in self.checkpoints():
            try:
                return read_checkpoint(file)
            except (BadCheckpoint, OSError):
                continue
        return None

    def rewind(self, step: int) -> None:
        """Drop the recorded steps after `step`, which are about to be done again."""
        kept = [row for row in self.metrics() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for training. Raises BusyRun; a dead process holds nothing."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR)
        try:
            _lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyRun(f"another process is training in {path}") from error


def find_run(outputs: Path, reference: str) -> RunFolder:
    """The run that a path, a run's id, its MLflow id, or the beginning of one names. Raises NoSuchRun."""
    if (Path(reference) / "run.json").is_file():
        return RunFolder(Path(reference))
    found = [folder for folder in all_runs(outputs) if _answers(folder, reference)]
    if len(found) == 1:
        return found[0]
    many = ", ".join(folder.path.name for folder in found[:3])
    problem = f"more than one run begins so ({many}, ...)" if found else "no such run or folder"
    raise NoSuchRun(f"{reference}: {problem}; `microgpt runs` lists the runs")


def all_runs(outputs: Path) -> list[RunFolder]:
    """Every run folder below `outputs`, the oldest first."""
    files = [*outputs.glob("runs/*/run.json"), *outputs.glob("sweeps/*/*/run.json")]
    return [RunFolder(file.parent) for file in sorted(files, key=lambda file: file.parent.name)]


def _answers(folder: RunFolder, reference: str) -> bool:
    if len(reference) < 4:
        return False
    ids = [folder.path.name, folder.info.get("mlflow_run_id", "")]
    return any(name.startswith(reference) for name in ids)
