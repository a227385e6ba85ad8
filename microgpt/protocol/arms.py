"""The arms that a section names, among those of a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from microgpt.core.check import BadValue
from microgpt.protocol.section import fits, scalar


class Named(Protocol):
    """Anything that stands for an arm."""

    @property
    def name(self) -> str: ...

    @property
    def differs(self) -> Mapping[str, Any]: ...


A = TypeVar("A", bound=Named)


@dataclass(frozen=True)
class Planned:
    """An arm before its first run."""

    name: str
    differs: Mapping[str, str]  # swept keys and values, without the seed
    seeds: Sequence[int]


def planned(jobs: Iterable[Mapping[str, Any]]) -> list[Planned]:
    """The arms of some jobs, by their facts, in their order."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for job in jobs:
        groups.setdefault(job["arm"], []).append(job)
    return [
        Planned(
            name,
            {key: value for key, value in own[0]["differs"].items() if key != "seed"},
            [job["seed"] for job in own],
        )
        for name, own in groups.items()
    ]


def one_arm(arms: Sequence[A], wanted: Mapping[str, Any], key: str) -> A:
    """The arm with just these values, else the only one that has them. Raises BadValue under `key`."""
    fitting = [arm for arm in arms if fits(arm.differs, wanted)]
    found = [arm for arm in fitting if len(arm.differs) == len(wanted)] or fitting
    if len(found) != 1:
        names = ", ".join(arm.name for arm in arms)
        allowed = f"must fit one arm of the sweep, not {len(found)}; there are {names}"
        raise BadValue(key, dict(wanted), allowed)
    return found[0]


def along_axis(arms: Sequence[A], axis: str | None) -> list[A]:
    """The arms, at least three, sorted by their numbers on the axis. Raises BadValue."""
    places = {arm.name: scalar(arm.differs.get(axis or "")) for arm in arms}
    numbers = {name: place for name, place in places.items() if isinstance(place, float)}
    if len(set(numbers.values())) != len(arms) or len(arms) < 3:
        allowed = "an optimum needs three arms or more, with a different number each"
        raise BadValue("ablation.axis", axis, allowed)
    return sorted(arms, key=lambda arm: numbers[arm.name])
