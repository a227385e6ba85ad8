"""The folder of a run that is about to begin, and folders in which none did.

Its process ended, or was killed, before `run.json` was there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from microgpt.run.documents import DOCUMENTS
from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord
from microgpt.run.record import COPYING, LOCK, Busy
from microgpt.terminal import ConfigError

FILES = {"config.yaml", "git.diff", "metrics.jsonl", DOCUMENTS}  # of a run that is about to begin
CHECKPOINTS = "checkpoints"


def sweep_up(outputs: Path) -> None:
    """Discards all such folders in `outputs`."""
    with suppress(OSError), os.scandir(outputs / "runs") as entries:
        for entry in entries:
            if not os.path.exists(os.path.join(entry.path, RunFolder.FILE)):
                discard(Path(entry.path))


def claim(folder: Path) -> None:
    """Marks an empty folder as ours: if we are killed before a run begins, the next start discards it."""
    (folder / LOCK).touch()


def discard(folder: Path) -> None:
    """Removes a folder in which no run began, if no process holds it and all that it has is ours."""
    if not (folder / LOCK).is_file():
        return
    run, copied = RunFolder(folder), (folder / COPYING).is_file()
    with suppress(OSError, Busy, BadRecord), run.locked(0.0):
        if run.exists or not all(_is_ours(file, copied) for file in folder.iterdir()):
            return
        for file in folder.iterdir():
            if file.name == CHECKPOINTS:
                for checkpoint in file.iterdir():
                    checkpoint.unlink()
                file.rmdir()
            elif file.name not in (COPYING, LOCK):
                file.unlink()
        (folder / COPYING).unlink(missing_ok=True)
        (folder / LOCK).unlink()  # last: who waits for it makes the folder anew
        folder.rmdir()


@contextmanager
def folder_for_a_run(path: Path) -> Iterator[None]:
    """Makes a folder and its parents; removes them after the block if no run began. Raises ConfigError."""
    path = path.absolute()
    made: list[Path] = []
    try:
        for folder in [*reversed(path.parents), path]:
            if not folder.is_dir():
                with suppress(FileExistsError):  # made by another process meanwhile
                    folder.mkdir()
                    made.append(folder)
        path.mkdir(exist_ok=True)
        if path in made:
            claim(path)
    except OSError as error:
        _remove_empty(made)
        problem = f"{error.filename}: {error.strerror}; runs are written below paths.outputs"
        raise ConfigError(problem) from error
    try:
        yield
    finally:
        if path in made:
            discard(path)
        _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the last first, up to one that is not empty."""
    with suppress(OSError):
        for folder in reversed(folders):
            with suppress(FileNotFoundError):  # it has been discarded
                folder.rmdir()


def stranger(folder: Path) -> str | None:
    """The name of something that no run left in a folder, nor Hydra a log; None if there is none."""
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    begun = (folder / LOCK).is_file()  # else a config.yaml is somebody's
    names = (each.name for each in there if not (begun and _is_ours(each)))
    return next((name for name in names if not name.endswith(".log")), None)


def _is_ours(file: Path, copied: bool = False) -> bool:
    """Whether a file is one that a run has before it begins: a fork has copies of its parent's records."""
    if file.name == CHECKPOINTS:
        names = [each.name.removeprefix(".") for each in file.iterdir()] if file.is_dir() else [""]
        return not names or (copied and all(name.startswith("step-") for name in names))
    if file.name == "metrics.jsonl" and file.stat().st_size:
        return copied
    is_new = file.name.startswith(".") and file.name.endswith(".new")  # being written
    return file.name in (*FILES, COPYING, LOCK) or is_new
