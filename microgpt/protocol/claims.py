"""Claims that are judged automatically, one class per kind: `claim: {kind: optimum}`.

    optimum     some arm strictly inside the axis beats both ends
    worse       `arms: [{key: value}, ...]` are worse than `than: {key: value}` (the baseline) ...
    better      ... or better
    equal       ... or as good, within `matters`
    power_law   loss falls as a power of the size, `exponent: [low, high]`, and `bend: flattens`,
                `steepens` or nothing said; needs `fit`
    all         every one of `claims: [...]` holds

Here is what each says; `microgpt.ablation.claims` judges it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned, along_axis, one_arm
from microgpt.protocol.section import Question

KEY = "ablation.claim"


class Claim:
    """A kind of claim. The arguments of its constructor are the keys of the configuration."""

    kind: ClassVar[str]

    def __str__(self) -> str:
        """The claim in words."""
        raise NotImplementedError

    def check(self, asked: Question, arms: Sequence[Planned]) -> None:
        """Raises BadValue unless a sweep of these arms can judge the claim."""
        raise NotImplementedError


class Compared(Claim):
    """All of some arms against another."""

    relation: ClassVar[str]

    def __init__(
        self, *, arms: Sequence[Mapping[str, Any]], than: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(arms, list) or not arms or not all(isinstance(a, Mapping) for a in arms):
            raise BadValue(f"{KEY}.arms", arms, "must be a list of {key: value}")
        if than is not None and not isinstance(than, Mapping):
            raise BadValue(f"{KEY}.than", than, "must hold keys and values")
        self.arms, self.than = arms, than

    def __str__(self) -> str:
        arms = " and ".join(map(_named, self.arms))
        other = _named(self.than) if self.than else "the baseline"
        return f"{arms} {self.relation} {other}"

    def check(self, asked: Question, arms: Sequence[Planned]) -> None:
        other = one_arm(arms, self.than or asked.baseline, f"{KEY}.than")
        for wanted in self.arms:
            if one_arm(arms, wanted, f"{KEY}.arms") is other:
                raise BadValue(f"{KEY}.arms", dict(wanted), "must not be compared with itself")


class Worse(Compared):
    """All of some arms are worse than another by at least `matters`."""

    kind, relation = "worse", "worse than"


class Better(Compared):
    """All of some arms are better than another by at least `matters`."""

    kind, relation = "better", "better than"


class Equal(Compared):
    """All of some arms are as good as another: the whole interval is within `matters`."""

    kind, relation = "equal", "as good as"


class Optimum(Claim):
    """Some inner arm beats both ends by at least `matters`."""

    kind = "optimum"

    def __str__(self) -> str:
        return "one of the inner arms better than both ends"

    def check(self, asked: Question, arms: Sequence[Planned]) -> None:
        along_axis(arms, asked.axis)


class PowerLaw(Claim):
    """The exponent is in an interval, and the law bends as claimed."""

    kind = "power_law"

    def __init__(self, *, exponent: Sequence[float], bend: str | None = None) -> None:
        given = exponent if isinstance(exponent, list) else []
        numbers = [v for v in given if isinstance(v, int | float)]
        if len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise BadValue(f"{KEY}.exponent", exponent, "must be [low, high]")
        if bend not in (None, "flattens", "steepens"):
            raise BadValue(f"{KEY}.bend", bend, "must be flattens, steepens or null")
        self.low, self.high, self.bend = float(numbers[0]), float(numbers[1]), bend

    def __str__(self) -> str:
        bent = f", which {self.bend}" if self.bend else ""
        return f"a power law with an exponent from {self.low:g} to {self.high:g}{bent}"

    def check(self, asked: Question, arms: Sequence[Planned]) -> None:
        if asked.fit is None:
            raise BadValue("ablation.fit", None, "must be n_params: the claim is a power law")


class All(Claim):
    """All claims of a list hold."""

    kind = "all"

    def __init__(self, *, claims: Sequence[Mapping[str, Any]]) -> None:
        whole = isinstance(claims, list) and all(isinstance(one, Mapping) for one in claims)
        if not whole or not claims:
            raise BadValue(f"{KEY}.claims", claims, "must be a list of claims")
        self.claims = [claim(section) for section in claims]

    def __str__(self) -> str:
        return ", and ".join(map(str, self.claims))

    def check(self, asked: Question, arms: Sequence[Planned]) -> None:
        for one in self.claims:
            one.check(asked, arms)


KINDS: dict[str, Callable[..., Claim]] = {
    one.kind: one for one in (Optimum, Worse, Better, Equal, PowerLaw, All)
}


def claim(section: Mapping[str, Any]) -> Claim:
    """The claim in a section of the configuration. Raises BadValue."""
    kind, rest = section.get("kind"), {k: v for k, v in section.items() if k != "kind"}
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadValue(f"{KEY}.kind", kind, f"must be one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](**rest)
    except TypeError as error:
        raise BadValue(f"{KEY} ({kind})", rest, str(error).partition("() ")[2]) from error


def _named(values: Mapping[str, Any]) -> str:
    """`n_head=4 lr=0.01`; full keys if the last parts are ambiguous."""
    last = {key: re.split("[./]", key)[-1] for key in values}
    short = len({*last.values()}) == len(last)
    return " ".join(f"{last[key] if short else key}={value}" for key, value in values.items())
