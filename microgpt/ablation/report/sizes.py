"""What two experiments that ask the same, of another size or length, say of the same arms."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from microgpt.ablation.statistics.verdict import Verdict
from microgpt.sweep.expand import short_names

Lock: TypeAlias = Mapping[str, Any]
# Words where any difference matters, with those that say as much.
PLAIN = {"better": Verdict.BETTER_SOME, "worse": Verdict.WORSE_SOME}
RATES = ("lr", "adam_lr")  # the last part of their keys


class Both(NamedTuple):
    """What two experiments say of one arm."""

    arm: str
    one: Mapping[str, Any]  # the arm's row in the table of one lock
    other: Mapping[str, Any]

    @property
    def contradict(self) -> bool:
        """Whether no difference fits both verdicts."""
        one, other = (
            Verdict(PLAIN.get(row["word"], row["word"])) for row in (self.one, self.other)
        )
        return one.contradicts(other)


def counterpart(lock: Lock, locks: Sequence[Lock]) -> Lock | None:
    """The experiment that asks the same as this one elsewhere, if it comes before it."""
    asks_too = (lock["ablation"] or {}).get("robustness") or []
    before = [other for other in locks if other["experiment"] < lock["experiment"]]
    return next((other for other in before if other["experiment"] in asks_too), None)


def both(one: Lock, other: Lock) -> list[Both]:
    """The arms that both experiments compared with their baselines.

    Each experiment has its own learning rates, so these do not make another arm.
    """
    first, second = _compared(one), _compared(other)
    return [Both(arm, first[arm], second[arm]) for arm in first if arm in second]


def contradictions(arms: Sequence[Both]) -> str:
    """On how many arms the verdicts contradict each other."""
    found = sum(arm.contradict for arm in arms)
    if not found:
        return "No two verdicts on an arm contradict each other."
    return (
        f"On {found} of {len(arms)} arms the two verdicts, in bold, contradict each other: no difference "
        "fits both, so what holds of one experiment does not hold of the other."
    )


def _compared(lock: Lock) -> dict[str, Mapping[str, Any]]:
    """The rows with a difference from the baseline, by what tells them apart but for the rate."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in lock["table"]:
        if row["difference"]:
            rows.setdefault(_but_for_rates(row["differs"]), []).append(row)
    return {arm: found[0] for arm, found in rows.items() if arm and len(found) == 1}


def _but_for_rates(differs: Mapping[str, str]) -> str:
    """`block=post_norm norm=none` of an arm, with its keys in one order; empty if only rates differ."""
    kept = [key for key in sorted(differs) if key.rpartition(".")[2] not in RATES]
    names = short_names(kept)
    return " ".join(f"{names[key]}={differs[key]}" for key in kept)
