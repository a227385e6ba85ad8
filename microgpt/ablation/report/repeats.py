"""Which runs of a sweep repeat those of older questions, so that their results may have been known.

Runs of one signature have the same configuration, data and seed. A change of the code trains them again, so
the time at which a sweep's own runs ended does not tell.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Lock: TypeAlias = Mapping[str, Any]


def repeats(lock: Lock, others: Iterable[Lock]) -> dict[str, int]:
    """experiment -> how many of the runs it has too, of those whose protocols are older, the oldest first.

    A run counts once, for the first that has it. The baseline's do not count, since they alone show no
    difference; none does without a protocol, before which it could be known.
    """
    before = [other for other in others if lock["protocol"] and time(other) < time(lock)]
    left = {run["signature"] for run in lock["runs"] if run["arm"] != lock["baseline"]}
    found = {}
    for other in sorted(before, key=time):
        has = left & signatures(other)
        if has:
            found[str(other["experiment"])] = len(has)
            left -= has
    return found


def shares(lock: Lock, others: Iterable[Lock]) -> list[str]:
    """The other experiments that have runs of its baseline, by name."""
    own = {run["signature"] for run in lock["runs"] if run["arm"] == lock["baseline"]}
    names = {str(other["experiment"]) for other in others if own & signatures(other)}
    return sorted(names - {str(lock["experiment"])})


def time(lock: Lock) -> str:
    """When its protocol was frozen; after all others without one."""
    return str((lock["protocol"] or {"time": "9999"})["time"])


def signatures(lock: Lock) -> set[str]:
    """Those of all its runs."""
    return {run["signature"] for run in lock["runs"]}


def told(lock: Lock, found: Mapping[str, int]) -> str:
    """How many of the runs repeat those of older questions; empty if none does, or nothing was claimed."""
    if not found or not lock["verdict"]:
        return ""
    named = ", ".join(f"{name} {runs}" for name, runs in found.items())
    return (
        f" Beside the baseline's, {sum(found.values())} of the {len(lock['runs'])} runs repeat runs of "
        f"questions that were asked before, whose results may have been known: {named}."
    )


def shared(lock: Lock) -> str:
    """Which experiments have the same runs of the baseline; empty if none does."""
    names = lock["shares"]
    if not names:
        return ""
    return (
        f", whose runs are also those of {', '.join(names)}, so these results are not independent"
    )
