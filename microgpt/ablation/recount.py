"""Recomputes a lock's numbers and page from the runs in the lock, without a store or training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from microgpt.ablation.lock import config_of
from microgpt.ablation.replay import Difference
from microgpt.ablation.report.analysis import analyse
from microgpt.ablation.report.rates import Tuning
from microgpt.ablation.report.readme import render_readme
from microgpt.ablation.store import FINISHED, Arm, Run, Sweep
from microgpt.run.reading import read_text
from microgpt.trust import OURS_ALONE, Trust

COUNTED = (  # computed from the runs
    *("baseline", "table", "fit", "rates", "verdict", "because"),
    *("curves", "multipliers", "flattened", "samples"),
)
CLOCKED = "What it took"  # the section of a page with clock times, which no lock contains


@dataclass(frozen=True)
class Recorded(Tuning):
    """The outcome of a tuning as the lock keeps it: which arms must not be ranked, and why."""

    flags: Mapping[str, str | None] = field(default_factory=dict)

    def flag(self, arm: Arm, used: float) -> str | None:
        return self.flags[arm.name]


def miscounted(
    lock: Mapping[str, Any], documents: Sequence[str], trust: Trust = OURS_ALONE
) -> Difference | None:
    """The first number in the lock that its runs do not give, if any. Raises Untrusted."""
    counted = analyse(_sweep(lock, documents, trust), _tuning(lock))
    for key in COUNTED:
        if found := _unlike(lock[key], counted[key], key):
            place, said, given = found
            says = f"it says {said!r}; its runs give {given!r}"
            return Difference(f"the lock contradicts itself in {place}", says)
    return None


def misquoted(lock: Mapping[str, Any], readme: Path) -> Difference | None:
    """The first section of the page that the lock does not give, if any; clock times are ignored."""
    there = _sections(read_text(readme) if readme.exists() else "")
    given = _sections(render_readme(lock, ()))
    for title in [*given, *(title for title in there if title not in given)]:
        old, new = there.get(title, []), given.get(title, [])
        if title == CLOCKED or old == new:
            continue
        pairs = [*zip(old, new), (f"{len(old)} lines", f"{len(new)} lines")]
        said, wanted = next(pair for pair in pairs if pair[0] != pair[1])
        says = f"it says {said!r}; the lock gives {wanted!r}"
        return Difference(f"{readme} is not what the lock gives, under {title!r}", says)
    return None


def _sections(text: str) -> dict[str, list[str]]:
    """Heading -> lines of each section of a page."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in text.split("\n"):
        if line.startswith("## "):
            title = line.removeprefix("## ")
        found.setdefault(title, []).append(line)
    return found


def _sweep(lock: Mapping[str, Any], documents: Sequence[str], trust: Trust) -> Sweep:
    """The sweep as far as it is in the lock."""
    arms = []
    for row in lock["table"]:
        own = [run for run in lock["runs"] if run["arm"] == row["arm"]]
        runs = tuple(_run(lock, run, row["differs"]) for run in own)
        arms.append(Arm(row["arm"], row["differs"], runs, lock["figure"]))
    told = {key: lock[key] for key in ("experiment", "description", "ablation", "config")}
    return Sweep(
        **told,
        **lock["sweep"],
        name=lock["experiment"],
        arms=tuple(arms),
        parent="",
        documents=tuple(documents),
        trust=trust,
    )


def _run(lock: Mapping[str, Any], run: Mapping[str, Any], differs: Mapping[str, str]) -> Run:
    known = {key: run[key] for key in ("name", "arm", "seed", "status")} | {"differs": differs}
    if run["status"] != FINISHED:
        return Run(**known)
    tags = {key: str(run[key]) for key in ("signature", "source", "parameters_sha256", "n_params")}
    return Run(
        **known,
        tags=tags,
        metrics=run["metrics"],
        rows=run["curve"],
        config=config_of(lock, run),
        samples=tuple(run["samples"]),
    )


def _tuning(lock: Mapping[str, Any]) -> Tuning | None:
    if lock["tuning"] is None:
        return None
    flags = {row["arm"]: row["flag"] for row in lock["table"]}
    return Recorded(lock["tuning"]["experiment"], None, (), (), {}, flags)


def _unlike(said: Any, given: Any, place: str) -> tuple[str, Any, Any] | None:
    """The path and values of the first leaf that differs between two structures, if any."""
    if isinstance(said, Mapping) and isinstance(given, Mapping) and said.keys() == given.keys():
        pairs = [(f"{place}.{key}", said[key], given[key]) for key in said]
    elif isinstance(said, list) and isinstance(given, list) and len(said) == len(given):
        pairs = [
            (_named(place, one, i), one, other) for i, (one, other) in enumerate(zip(said, given))
        ]
    else:
        return None if said == given else (place, said, given)
    found = (_unlike(one, other, where) for where, one, other in pairs)
    return next((unlike for unlike in found if unlike), None)


def _named(place: str, row: Any, index: int) -> str:
    """`table[n_head=4]` if the row is an arm, else `table[0]`."""
    return f"{place}[{row['arm'] if isinstance(row, Mapping) and 'arm' in row else index}]"
