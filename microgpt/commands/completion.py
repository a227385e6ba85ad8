"""Tab completion: the options of commands, and the arguments that name a run, a sweep or an experiment."""

import re
from argparse import Action
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from microgpt.commands.common import REPORTS
from microgpt.run.folder import RunFolder
from microgpt.run.sweep import SweepFolder
from microgpt.terminal import config_dir

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
    """What completion may print: the words that Bash expands to themselves, each on a line."""
    return "\n".join(word for word in words if SAFE.fullmatch(word))


def completed(
    command: str, words: Sequence[str], options: Mapping[str, Action], outputs: Path
) -> list[str] | None:
    """What the last word of a command may become; None is an override of `train`, which Hydra completes.

    options  of the command, by their names
    """
    *before, word = words
    option = options.get(before[-1] if before else "")
    if option and option.nargs != 0:
        found = {*(option.choices or ())}  # without any, Bash proposes files
    elif word.startswith("-"):
        found = {*options}
    elif command != "train":
        found = {name for kind in NAMED.get(command, ()) for name in _there(kind, outputs, words)}
    elif word.startswith("resume="):
        found = {f"resume={name}" for name in _there(RUNS, outputs, words)}
    else:
        return None
    return sorted(each for each in found if each.startswith(word))


def _there(kind: str, outputs: Path, words: Sequence[str]) -> Iterator[str]:
    if kind in FILES:
        yield from (file.parent.name for file in outputs.glob(f"{kind}/*/{FILES[kind]}"))
    elif kind == EXPERIMENTS:
        from microgpt.app import config_path

        for folder in (config_path(), *map(Path, config_dir(words)[1:])):
            yield from (file.stem for file in (folder / "experiment").glob("*.yaml"))
    else:
        from microgpt.ablation.reproduce.verify_lock import recorded

        yield from recorded(outputs / REPORTS)
