"""Writes experiments/README.md: a gallery of all experiments with their verdicts."""

import re
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.report import repeats, sizes, words
from microgpt.ablation.report.page import linked
from microgpt.ablation.report.readme import templates
from microgpt.core.check import BadValue
from microgpt.run.checkpoint import write_whole
from microgpt.run.reading import BadRecord, read_bytes
from microgpt.terminal import complain

# What tells a run from others, in the text of a lock: see MARKS of repeats.py.
MARK = re.compile(rb'"(?:signature|parameters_sha256)":\s*"(\w+)"')
HEADING = "# Questions and verdicts\n"


def check_index(experiments: Path) -> None:
    """Raises BadValue if a gallery would take the place of another page."""
    page = experiments / "README.md"
    if page.exists() and not read_bytes(page).startswith(HEADING.encode()):
        problem = "has a README.md that is no gallery of experiments"
        raise BadValue("out", str(experiments), f"{problem}; --out takes another folder")


def write_index(experiments: Path) -> None:
    """Writes an entry for each experiment with a question.

    Damaged locks, and those of an older version, are named on standard error.
    """

    def tell(error: BadRecord) -> None:
        complain(f"{error}; {experiments}/README.md is without it")

    locks = list(locks_in(experiments, tell))
    page = templates().get_template("gallery.md.j2").render(locks=locks)
    write_whole(experiments / "README.md", linked(page, experiments).encode())


def locks_in(
    experiments: Path, tell: Callable[[BadRecord], None] = lambda error: None
) -> Iterator[dict[str, Any]]:
    """The locks of a folder of experiments that can be shown; `tell` is told of the others."""
    for file in sorted(experiments.glob(f"*/{LOCK}")):
        try:
            yield whole(file)
        except BadRecord as error:
            tell(error)


def locks_with(marks: Set[str], experiments: Path) -> Iterator[dict[str, Any]]:
    """Those that can be shown and have a run with one of these marks: see repeats.py.

    To look for marks in a file takes a 25th of the time that reading it as a lock takes.
    """
    for file in sorted(experiments.glob(f"*/{LOCK}")):
        with suppress(BadRecord):
            if not marks.isdisjoint(marks_in(file)):
                yield whole(file)


def marks_in(file: Path) -> set[str]:
    """What tells runs from others in the text of a lock. Raises BadRecord."""
    return {match.decode() for match in MARK.findall(read_bytes(file))}


def whole(file: Path) -> dict[str, Any]:
    """A lock with all that its entry shows. Raises BadRecord."""
    lock = read_lock(file)
    try:
        for told in (words.verdict, words.standing, words.effect, repeats.time, repeats.marks):
            told(lock)
        sizes.contradictions(sizes.both(lock, lock))
    except (
        Exception
    ) as error:  # a neighbour's lock, which may hold anything, must not stop a report
        raise BadRecord(file, f"cannot be shown ({type(error).__name__}: {error})") from error
    return lock
