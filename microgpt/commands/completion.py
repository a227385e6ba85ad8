"""Tab completion of the arguments that name a run, a sweep or an experiment."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from microgpt.commands.common import REPORTS
from microgpt.run.folder import RunFolder
from microgpt.run.sweep import SweepFolder

RUNS, SWEEPS = "runs", "sweeps"  # folders in the outputs
EXPERIMENTS, REPORTED = "experiments", "reported"  # of which there are configurations, or reports
NAMED = {  # command -> what its arguments name
    "sample": (RUNS,),
    "compare": (RUNS, SWEEPS, EXPERIMENTS),
    "fork": (RUNS,),
    "inspect": (RUNS,),
    "register": (RUNS,),
    "sync": (RUNS, SWEEPS),
    "rm": (RUNS, SWEEPS),
    "ui": (RUNS, SWEEPS, EXPERIMENTS),
    "report": (SWEEPS, EXPERIMENTS),
    "verify": (RUNS, REPORTED),
}
FILES = {RUNS: RunFolder.FILE, SWEEPS: SweepFolder.FILE}


# Bash expands what is proposed to it: the folder `$(reboot)` would be a command.
SAFE = re.compile(r"[\w.,:@%+=/~-]+")


def proposed(words: Iterable[str]) -> str:
    """What completion may print for Bash: the words that it expands to themselves."""
    return " ".join(word for word in words if SAFE.fullmatch(word))


def completed(command: str, word: str, outputs: Path) -> list[str]:
    """What the last word of a command may become; `resume=...` of `train` too."""
    if command == "train":
        key, _, begun = word.partition("=")
        names = _there(RUNS, outputs) if key == "resume" else iter(())
        return sorted(f"resume={name}" for name in names if name.startswith(begun))
    found = {name for kind in NAMED.get(command, ()) for name in _there(kind, outputs)}
    return sorted(name for name in found if name.startswith(word))


def _there(kind: str, outputs: Path) -> Iterator[str]:
    if kind in FILES:
        yield from (file.parent.name for file in outputs.glob(f"{kind}/*/{FILES[kind]}"))
    elif kind == EXPERIMENTS:
        from microgpt.app import config_path

        yield from (file.stem for file in (config_path() / "experiment").glob("*.yaml"))
    else:
        from microgpt.ablation.reproduce.verify_lock import recorded

        yield from recorded(outputs / REPORTS)
