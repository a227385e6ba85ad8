"""The folder of a report: written beside the old one, then put in its place."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from tempfile import mkdtemp

from microgpt.ablation.evidence.lock import LOCK, content_of
from microgpt.core.check import BadValue
from microgpt.run.locks import lock
from microgpt.run.reading import BadRecord

ALWAYS = {"README.md", "report.html", LOCK}


@contextmanager
def renewed(folder: Path) -> Iterator[Path]:
    """An empty folder, which takes the place of `folder` at the end of the block unless that raises.

    Raises BadValue where a file stands that is no report's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.parent):
        tidy(folder)
    beside = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with held(beside):
            yield beside
            beside.chmod(0o755)
            with held(folder.parent):
                swap(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which a process's death releases."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def swap(new: Path, folder: Path) -> None:
    """Replaces `folder` by `new`, and keeps files in it that are not the report's.

    Raises BadValue where one of them would be lost.
    """
    if not folder.exists():
        new.rename(folder)
        return
    is_report = (folder / LOCK).exists()
    known = ours(folder) if is_report else set()
    for file in folder.iterdir():
        if file.is_dir():
            shutil.copytree(file, new / file.name, dirs_exist_ok=True)
        elif not (new / file.name).exists() and file.name not in known:
            shutil.copy2(file, new / file.name)
        elif not is_report:
            problem = f"has {file.name}, which is no report's; --out takes another folder"
            raise BadValue("out", str(folder), problem)
    old = Path(mkdtemp(prefix=f".{folder.name}~", dir=folder.parent))
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def ours(folder: Path) -> set[str]:
    """The names of a report's files: its pictures are those that its lock names."""
    named = None
    with suppress(BadRecord):  # of a lock that is damaged, no picture is known
        named = content_of(folder / LOCK).get("files")
    return ALWAYS | (named.keys() if isinstance(named, dict) else set())


def tidy(folder: Path) -> None:
    """Puts the old folder back that a killed report had moved away, and removes what it was writing."""
    for left in folder.parent.glob(f".{escape(folder.name)}[.~]????????"):
        if left.name[-9] == "~" and not folder.exists():
            left.rename(folder)
        elif left.name[-9] == "~" or is_dead(left):
            shutil.rmtree(left, ignore_errors=True)


def is_dead(folder: Path) -> bool:
    """Whether no process holds a folder's lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB) is True
    finally:
        os.close(descriptor)
