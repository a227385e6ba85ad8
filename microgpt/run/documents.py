"""The documents of runs, as documents.txt in the folder of each.

Runs with the same documents share one file, outputs/data/<digest>.txt: documents.txt is a link to it, or
a copy where links cannot be made. Copies of run folders have their own.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from socket import gethostname
from typing import Any

from microgpt.run.checkpoint import write_whole

DOCUMENTS = "documents.txt"
DOCUMENTS_LIMIT = 10_000_000  # bytes of documents that are kept with a run
READ_ONLY = 0o444  # who edits the file of one run would edit that of all
whole: dict[
    Path, tuple[int, ...]
] = {}  # shared files that this process has compared: their state then


def shared_file(config: Mapping[str, Any], facts: Mapping[str, Any]) -> Path | None:
    """The file that a run shares with others; None where its documents could not be read."""
    outputs, digest = config.get("paths", {}).get("outputs"), facts.get("data", {}).get("digest")
    return Path(outputs).absolute() / "data" / f"{digest}.txt" if outputs and digest else None


def keep_documents(file: Path, documents: Sequence[str], shared: Path | None) -> None:
    """Put documents into `file`, if they are not too many."""
    if shared in whole and whole[shared] == _state(shared) and _link(shared, file):
        return
    content = to_lines(documents).encode()
    if len(content) > DOCUMENTS_LIMIT:
        return
    if shared and _share(shared, content) and _link(shared, file):
        whole[shared] = _state(shared)
        return
    write_whole(file, content)


def _share(shared: Path, content: bytes) -> bool:
    """Have `content` in a shared file; returns whether that is possible."""
    try:
        if not shared.is_file() or shared.read_bytes() != content:
            shared.parent.mkdir(parents=True, exist_ok=True)
            # Under a name of our own: the workers of a sweep do so at once, and one of them may be killed.
            own = shared.with_name(f".{shared.name}.{gethostname()}-{os.getpid()}")
            write_whole(own, content)
            own.chmod(READ_ONLY)
            own.replace(shared)
    except OSError:
        return False
    return True


def _link(shared: Path, file: Path) -> bool:
    """Make `file` a link to the shared one; returns whether that is possible."""
    beside = file.with_name(f".{file.name}.new")
    try:
        beside.unlink(missing_ok=True)
        beside.hardlink_to(shared)
        beside.replace(file)
        beside.unlink(missing_ok=True)  # it is still there if `file` was the same link already
    except OSError:  # another file system, one without links, or too many of them
        return False
    return True


def _state(file: Path) -> tuple[int, ...]:
    """What changes when a file does; empty if there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def to_lines(texts: Sequence[str]) -> str:
    """One text a line; a line feed within it is written as \\n, a backslash as two."""
    return "".join(text.replace("\\", "\\\\").replace("\n", "\\n") + "\n" for text in texts)


def from_lines(content: str) -> list[str]:
    """The texts that `to_lines` wrote."""
    unescape = lambda found: "\n" if found[0] == "\\n" else "\\"  # noqa: E731
    return [re.sub(r"\\[n\\]", unescape, line) for line in content.split("\n")[:-1]]
