"""A folder with a JSON file of facts and a lock; the base of run and sweep folders."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from microgpt.run.checkpoint import write_whole

RUNNING, FINISHED, FAILED, STOPPED = "running", "finished", "failed", "stopped"
KILLED = "killed"  # recorded as running, but no process holds the lock
POLL = 0.2  # seconds between attempts to take a lock


class Busy(RuntimeError):
    """Another process holds the folder's lock."""


class Record:
    """A folder, its JSON file of facts, and its lock."""

    FILE: ClassVar[str]  # the name of the JSON file

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file = self.path / self.FILE
        self._lock_path = self.path / ".lock"
        self._mlflow_path = self.path / ".mlflow_run_id"

    @property
    def exists(self) -> bool:
        """Whether the JSON file exists."""
        return self._file.exists()

    @property
    def info(self) -> dict[str, Any]:
        """The facts in the JSON file."""
        info: dict[str, Any] = json.loads(self._file.read_text(encoding="utf-8"))
        return info

    def update(self, **facts: Any) -> None:
        """Changes or adds facts."""
        known = self.info if self.exists else {}
        text = json.dumps(known | facts, indent=1, ensure_ascii=False) + "\n"
        write_whole(self._file, text.encode())

    @property
    def status(self) -> str:
        """The status; `killed` if it is recorded as running and no process holds the lock."""
        held = self.held  # read first, since a process writes the final status before it unlocks
        status = str(self.info["status"])
        return KILLED if status == RUNNING and not held else status

    @property
    def mlflow_run_id(self) -> str:
        """The run's id in the last store it was sent to; empty if there is none."""
        return self._mlflow_path.read_text() if self._mlflow_path.exists() else ""

    @mlflow_run_id.setter
    def mlflow_run_id(self, run_id: str) -> None:
        # A separate file, since only the process that holds the lock writes the facts. Not synced: a
        # store finds a run without it.
        beside = self._mlflow_path.with_suffix(".new")
        beside.write_text(run_id)
        beside.replace(self._mlflow_path)

    @contextmanager
    def locked(self, patience: float = 0.1) -> Iterator[None]:
        """Holds the lock, which a process's death releases. Raises Busy after `patience` seconds."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock_path, os.O_CREAT | os.O_RDWR)
        try:
            deadline = time.monotonic() + patience
            while not _lock(descriptor):
                if time.monotonic() >= deadline:
                    raise Busy(f"another process is at work in {self.path}")
                time.sleep(min(POLL, patience))
            yield
        finally:
            os.close(descriptor)

    @property
    def held(self) -> bool:
        """Whether a process holds the lock."""
        if not self._lock_path.exists():
            return False
        with self._lock_path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
