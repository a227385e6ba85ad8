"""Which runs of a sweep repeat those of older questions, so that their results may have been known.

Runs of one signature have the same configuration, data and seed. A change of the code trains them again, so
the time at which a sweep's own runs ended does not tell. Runs that end with the same parameters are the
same too, whatever their configurations are called, and however they were evaluated.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Lock: TypeAlias = Mapping[str, Any]
MOST = 3  # arms that are named
MARKS = ("signature", "parameters_sha256")  # of a run


def repeats(lock: Lock, others: Iterable[Lock]) -> dict[str, dict[str, Any]]:
    """experiment -> how many `runs` it has too, of which `arms`, if its protocol is older; oldest first.

    A run counts once, for the first that has it. The baseline's do not count, since they alone show no
    difference; none does without a protocol, before which it could be known.
    """
    before = [other for other in others if lock["protocol"] and time(other) < time(lock)]
    left = [run for run in lock["runs"] if run["arm"] != lock["baseline"]]
    found = {}
    for other in sorted(before, key=time):
        known = marks(other)
        has = [run for run in left if not known.isdisjoint(_marks(run))]
        if has:
            arms = list(dict.fromkeys(run["arm"] for run in has))
            found[str(other["experiment"])] = {"runs": len(has), "arms": arms}
            left = [run for run in left if known.isdisjoint(_marks(run))]
    return found


def shares(lock: Lock, others: Iterable[Lock]) -> dict[str, int]:
    """experiment -> how many runs of the lock's baseline it has too, by name."""
    own = [run for run in lock["runs"] if run["arm"] == lock["baseline"]]
    found = {}
    for other in others:
        known = marks(other)
        has = sum(not known.isdisjoint(_marks(run)) for run in own)
        if has and other["experiment"] != lock["experiment"]:
            found[str(other["experiment"])] = has
    return dict(sorted(found.items()))


def time(lock: Lock) -> str:
    """When its protocol was frozen; after all others without one."""
    return str((lock["protocol"] or {"time": "9999"})["time"])


def marks(lock: Lock) -> set[str]:
    """What tells its runs from others."""
    return {mark for run in lock["runs"] for mark in _marks(run)}


def _marks(run: Mapping[str, Any]) -> set[str]:
    return {run[key] for key in MARKS if key in run}


def told(lock: Lock, found: Mapping[str, Mapping[str, Any]]) -> str:
    """How many of the runs repeat those of older questions; empty if none does, or nothing was claimed."""
    if not found or not lock["verdict"]:
        return ""
    named = ", ".join(f"{name} {one['runs']}" for name, one in found.items())
    arms = list(dict.fromkeys(arm for one in found.values() for arm in one["arms"]))
    of = f"of {', '.join(arms)}" if len(arms) <= MOST else f"of {len(arms)} arms"
    return (
        f" Of the {len(lock['runs'])} runs, {sum(one['runs'] for one in found.values())} ({of}; the "
        f"baseline's are not counted) repeat runs of questions that were asked before, whose results may "
        f"have been known: {named}."
    )


def shared(lock: Lock) -> str:
    """Which experiments have runs of the baseline too; empty if none does."""
    names = [f"{name} ({count})" for name, count in lock["shares"].items()]
    if not names:
        return ""
    return f"; runs of it are also in {', '.join(names)}, so these results are not independent"
