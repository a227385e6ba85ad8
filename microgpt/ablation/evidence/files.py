"""The files of a report that its lock covers.

Figures and the HTML page are covered byte by byte. The words of README.md may be edited; the numbers in it,
in their order, may not.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from microgpt.run.reading import read_bytes, read_text

README = "README.md"
COVERED = ("*.png", "*.svg", "*.html")
NUMBER = re.compile(r"[-+]?\d[\d.,]*")


def covered(folder: Path) -> dict[str, str]:
    """The sha256 of each covered file of a folder. Raises BadRecord."""
    files = sorted(file for pattern in COVERED for file in folder.glob(pattern))
    return {file.name: sha256(read_bytes(file)).hexdigest() for file in files}


def numbers_sha256(folder: Path) -> str:
    """sha256 of the numbers in README.md. Raises BadRecord."""
    found: Iterable[str] = NUMBER.findall(read_text(folder / README))
    return sha256("\n".join(number.rstrip(".,") for number in found).encode()).hexdigest()


def changed(folder: Path, files: dict[str, str], numbers: str) -> tuple[str, str] | None:
    """The first file that is not as it was written, and what is wrong with it; None if all are.

    Raises BadRecord.
    """
    now = covered(folder)
    for name in sorted({*files, *now}):
        if name not in now:
            return name, "is gone"
        if files.get(name) != now[name]:
            return name, "is not the report's" if name not in files else "was changed"
    if numbers_sha256(folder) != numbers:
        return README, "has other numbers than were written"
    return None
