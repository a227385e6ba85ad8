"""Writes experiments/README.md: all experiments, with their questions and verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microgpt.ablation.lock import LOCK, read_lock
from microgpt.ablation.report.render import markdown_table
from microgpt.core.check import BadValue
from microgpt.protocol.claims import claim
from microgpt.run.checkpoint import write_whole
from microgpt.run.reading import BadRecord
from microgpt.terminal import complain

HEAD = """# Questions and verdicts

Written by `microgpt report` from the lock file of each experiment. Each folder has the question, its
source, what was expected before the run, the table, the figures and the commands that check it.
[method](method/README.md) explains the words of a verdict, and how often they are wrong.

"""


def write_index(experiments: Path) -> None:
    """Writes a line for each experiment with a question; a damaged lock is named on standard error."""
    locks = []
    for file in sorted(experiments.glob(f"*/{LOCK}")):
        try:
            locks.append(read_lock(file))
        except BadRecord as error:
            complain(f"{error}; {experiments}/README.md is without it")
    rows: list[tuple[str, ...]] = [("experiment", "question", "source", "claim", "verdict")]
    rows += [_row(lock) for lock in locks if lock["ablation"]]
    write_whole(experiments / "README.md", (HEAD + markdown_table(rows)).encode())


def _row(lock: dict[str, Any]) -> tuple[str, ...]:
    asked, name = lock["ablation"], str(lock["experiment"])
    told = [" ".join(str(asked[key]).split()) for key in ("question", "source")]
    claimed = _words(asked["claim"]) if asked.get("claim") else "none"
    return f"[{name}]({name}/README.md)", *told, claimed, lock["verdict"] or ""


def _words(section: Mapping[str, Any]) -> str:
    """A claim in words; an unknown kind of claim as it is."""
    try:
        return str(claim(section))
    except BadValue:
        return str(dict(section))
