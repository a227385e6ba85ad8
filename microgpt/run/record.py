"""A folder with a JSON file of facts and a lock; the base of run and sweep folders."""

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from typing import Any, ClassVar

from microgpt.run.checkpoint import being_written, write_whole
from microgpt.run.facts import STATUSES
from microgpt.run.locks import lock
from microgpt.run.reading import BadRecord, Kinds, check, json_of, read_bytes, reading
from microgpt.secret import masked

RUNNING, FINISHED, FAILED, STOPPED = STATUSES
KILLED = "killed"  # recorded as running, but no process holds the lock
REFUSED = "refused"  # recorded as failed: a job of a sweep whose combination makes no sense
POLL = 0.2  # seconds between attempts to take a lock
MLFLOW_ID = re.compile(rb"[\w-]+")
LOCK = ".lock"
MLFLOW_RUN_ID = ".mlflow_run_id"
HIDDEN = (LOCK, ".mlflow.lock", MLFLOW_RUN_ID)
COPYING = ".copying"  # while a fork's folder gets the records of its parent: no run has begun there
PLACES = ("runs", "sweeps")  # folders in the outputs


def told(info: Mapping[str, Any], status: str) -> str:
    """A status as people are told it, by the facts of the same reading."""
    return REFUSED if status == FAILED and info.get("refused") else status


class Busy(RuntimeError):
    """Another process holds the folder's lock."""


class Record:
    """A folder, its JSON file of facts, and its lock. A damaged file raises BadRecord."""

    FILE: ClassVar[str]  # the name of the JSON file
    REQUIRED: ClassVar[Kinds]  # the facts that it has
    OTHERS: ClassVar[Kinds]  # those that it may have
    OURS: ClassVar[tuple[str, ...]] = ()  # the names of other files that we write there
    is_new = False  # whether it was just made, and no store can know it

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # alone: thousands of records may wait to be sent

    @property
    def _file(self) -> Path:
        return self.path / self.FILE

    @property
    def _lock_path(self) -> Path:
        return self.path / LOCK

    @property
    def _mlflow_path(self) -> Path:
        return self.path / MLFLOW_RUN_ID

    @property
    def exists(self) -> bool:
        """Whether the JSON file exists."""
        return self._file.exists()

    @property
    def made(self) -> list[Path]:
        """The files in the folder that we make, the JSON file first. All others are the user's."""
        names = [self.FILE, *self.OURS, *HIDDEN, f"{HIDDEN[-1]}.new", COPYING]
        files = [
            self.path / name for name in [*names, *map(being_written, (self.FILE, *self.OURS))]
        ]
        return [file for file in files if file.is_file()]

    @property
    def outputs(self) -> Path | None:
        """The outputs that the folder is in, wherever they are now; None if it lies elsewhere."""
        return self.path.parent.parent if self.path.parent.name in PLACES else None

    @property
    def info(self) -> dict[str, Any]:
        """The facts in the JSON file."""
        info = json_of(read_bytes(self._file), self._file)
        check(info, self._file, self.REQUIRED, self.OTHERS)
        return info

    def begin(self, **facts: Any) -> None:
        """Writes the JSON file of a new record, or of one that begins anew."""
        text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        write_whole(self._file, masked(text).encode())

    def update(self, **facts: Any) -> None:
        """Changes or adds facts. Raises BadRecord if there are none: a part would not be a record."""
        self.begin(**self.info | facts)

    @property
    def status(self) -> str:
        """The status; `killed` if it is recorded as running and no process holds the lock."""
        return self.info_and_status()[1]

    def info_and_status(self) -> tuple[dict[str, Any], str]:
        """The facts in the JSON file, and `status`, of one reading."""
        held = self.held  # read first, since a process writes the final status before it unlocks
        info = self.info
        return info, KILLED if info["status"] == RUNNING and not held else str(info["status"])

    @property
    def mlflow_run_id(self) -> str:
        """The run's id in the last store it was sent to; empty if none is known.

        A damaged file counts as none, since a store finds the run without it.
        """
        try:
            content = read_bytes(self._mlflow_path)
        except BadRecord:
            return ""
        return content.decode() if MLFLOW_ID.fullmatch(content) else ""

    @mlflow_run_id.setter
    def mlflow_run_id(self, run_id: str) -> None:
        # A separate file, since only the process that holds the lock writes the facts. Not synced,
        # since it can be done without.
        beside = self._mlflow_path.with_suffix(".new")
        beside.write_text(run_id)
        beside.replace(self._mlflow_path)

    @contextmanager
    def locked(
        self, patience: float = 0.1, is_over: Callable[[], bool] = lambda: False
    ) -> Iterator[None]:
        """Holds the lock, which a process's death releases.

        Raises Busy after `patience` seconds, or when the waiting `is_over`; BadRecord as `check_files`.
        """
        deadline = time.monotonic() + patience
        with ExitStack() as opened:
            is_there = False
            while not is_there:
                self.path.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # `unborn` is just removing the folder
                    self.check_files()
                    file = opened.enter_context(self._lock_file())
                    self._take(file.fileno(), deadline, is_over)
                    is_there = os.fstat(file.fileno()).st_nlink > 0  # not removed meanwhile
            yield

    def check_files(self) -> None:
        """Raises BadRecord for a link, a pipe or a device in the folder.

        Who writes into the folder or sends its files asks first: a link leads out of it.
        """
        if found := _irregular(self.path):
            raise BadRecord(found, "must be a file, but is a link, a pipe or a device")

    def _lock_file(self) -> BufferedWriter:
        try:
            return self._lock_path.open("ab")
        except IsADirectoryError as error:
            raise BadRecord(self._lock_path, "must be a file, but is a folder") from error

    def _take(self, descriptor: int, deadline: float, is_over: Callable[[], bool]) -> None:
        while lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is False:
            left = deadline - time.monotonic()
            if left <= 0 or is_over():
                raise Busy(f"another process is at work in {self.path}")
            time.sleep(min(POLL, left))

    @property
    def held(self) -> bool:
        """Whether a process holds the lock."""
        if not self._lock_path.exists():
            return False
        with reading(self._lock_path) as file:
            # Where there are no locks, the record is believed.
            return lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB) is not True


def _irregular(folder: Path) -> Path | None:
    """The first thing below a folder that is neither a file nor a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if found := _irregular(path):
                    return found
            elif not entry.is_file(follow_symlinks=False):
                return path
    return None


def when(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 writes a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def finite(value: float | None) -> float | None:
    """A figure; None for one of a run that diverged, which no JSON can hold."""
    return value if value is not None and math.isfinite(value) else None


def begin_of(record: Record) -> float:
    """When a record began, in seconds since 1970; infinity for a damaged one."""
    try:
        return float(record.info["begun"])
    except BadRecord:
        return math.inf
