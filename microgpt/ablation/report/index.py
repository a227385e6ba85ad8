"""Writes experiments/README.md: a gallery of all experiments with their verdicts."""

from pathlib import Path
from typing import Any

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.report import sizes, words
from microgpt.ablation.report.page import linked
from microgpt.ablation.report.readme import templates
from microgpt.run.checkpoint import write_whole
from microgpt.run.reading import BadRecord
from microgpt.terminal import complain


def write_index(experiments: Path) -> None:
    """Writes an entry for each experiment with a question.

    Damaged locks, and those of an older version, are named on standard error.
    """
    locks = []
    for file in sorted(experiments.glob(f"*/{LOCK}")):
        try:
            locks.append(whole(file))
        except BadRecord as error:
            complain(f"{error}; {experiments}/README.md is without it")
    page = templates().get_template("gallery.md.j2").render(locks=locks)
    write_whole(experiments / "README.md", linked(page, experiments).encode())


def whole(file: Path) -> dict[str, Any]:
    """A lock with all that its entry shows. Raises BadRecord."""
    lock = read_lock(file)
    try:
        for told in (words.verdict, words.standing, words.effect):
            told(lock)
        sizes.both(lock, lock)
    except (
        Exception
    ) as error:  # a neighbour's lock, which may hold anything, must not stop a report
        raise BadRecord(file, f"cannot be shown ({type(error).__name__}: {error})") from error
    return lock
