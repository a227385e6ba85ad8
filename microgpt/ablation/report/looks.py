"""Sentences of a report whose seeds were added until they were enough."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from microgpt.ablation.statistics.anytime import counts
from microgpt.ablation.statistics.verdict import Outcome

Lock: TypeAlias = Mapping[str, Any]


def stopping(lock: Lock) -> str:
    """The rule of a sequence of seeds; nothing for a fixed number of them."""
    if "stopped" not in lock:
        return ""
    most = lock["stopped"]["most"]
    return (
        f"stopping: seeds are added to all arms until the answer is no longer undecided, {most} at most; "
        f"looks after {', '.join(map(str, counts(most)))} seeds"
    )


def stopped(lock: Lock) -> str:
    """Why a sequence of seeds ended."""
    most, looks = lock["stopped"]["most"], lock["stopped"]["looks"]
    spent = looks[-1]["seeds"] if looks else 0
    if looks and looks[-1]["answer"] != Outcome.UNDECIDED:
        return f"It was decided after {spent} of at most {most} seeds."
    if spent == most:
        return f"All {most} seeds were spent, and the answer is still undecided."
    return f"It had {spent} of at most {most} seeds, and is undecided."


def is_cut_short(lock: Lock) -> bool:
    """Whether more seeds were to be added."""
    most, looks = lock["stopped"]["most"], lock["stopped"]["looks"]
    return not looks or (looks[-1]["answer"] == Outcome.UNDECIDED and looks[-1]["seeds"] < most)
