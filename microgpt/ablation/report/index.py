"""Writes experiments/README.md: a gallery of all experiments with their verdicts."""

from pathlib import Path

from microgpt.ablation.lock import LOCK, SCHEMA, read_lock
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
            lock = read_lock(file)
            if lock.get("schema") != SCHEMA:
                problem = f"is of version {lock.get('schema', 1)}, not {SCHEMA}: report it again"
                raise BadRecord(file, problem)
            locks.append(lock)
        except BadRecord as error:
            complain(f"{error}; {experiments}/README.md is without it")
    page = templates().get_template("gallery.md.j2").render(locks=locks)
    write_whole(experiments / "README.md", page.encode())
