"""Claims that are judged automatically, one class per kind: `claim: {kind: optimum}`.

    optimum     some arm strictly inside the axis beats both ends
    worse       `arms: [{key: value}, ...]` are worse than `than: {key: value}` (the baseline) ...
    better      ... or better
    equal       ... or as good, within `matters`
    power_law   loss falls as a power of the size, `exponent: [low, high]`, and `bend: flattens`,
                `steepens` or nothing said; needs `fit`
    all         every one of `claims: [...]` holds

Outcomes, by the paired 95 % interval. Supported: all of it is at `matters` or beyond. Refuted: all of it
falls short of `matters`, being equivalent or too small; opposite: moreover all of it lies on the other side
of 0. Otherwise: undecided with these seeds. What holds for all of several comparisons needs no correction;
what holds for any of them does: such intervals hold together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from microgpt.ablation.question import fits, scalar
from microgpt.ablation.report.fit import Fit
from microgpt.ablation.statistics.summary import Summary, summary
from microgpt.ablation.statistics.verdict import Outcome, at_least, equal, verdict
from microgpt.core.check import BadValue


@dataclass(frozen=True)
class Judged:
    """A verdict, with its reason in one sentence."""

    verdict: Outcome
    because: str


@dataclass(frozen=True)
class Evident:
    """An arm as seen by a claim: its losses by seed, and why it must not be ranked, if so."""

    name: str
    differs: Mapping[str, Any]
    losses: Mapping[int, float]
    unranked: str | None


@dataclass(frozen=True)
class Evidence:
    """The input of a claim."""

    arms: Sequence[Evident]
    baseline: Evident
    matters: float
    axis: str | None
    fit: Fit | None

    def arm(self, wanted: Mapping[str, Any]) -> Evident:
        """The only arm with these values. Raises BadValue."""
        found = [arm for arm in self.arms if fits(arm.differs, wanted)]
        if len(found) != 1:
            names = ", ".join(arm.name for arm in self.arms)
            allowed = f"must fit one arm, not {len(found)}; there are {names}"
            raise BadValue("ablation.claim", dict(wanted), allowed)
        return found[0]

    def along_axis(self) -> list[Evident]:
        """The arms, at least three, sorted by their numbers on the axis. Raises BadValue."""
        axis = self.axis or ""
        places = [scalar(arm.differs.get(axis)) for arm in self.arms]
        numbers = {place for place in places if isinstance(place, float)}
        if len(numbers) != len(places) or len(places) < 3:
            allowed = "an optimum needs three arms or more, with a different number each"
            raise BadValue("ablation.axis", self.axis, allowed)
        return [arm for _, arm in sorted(zip(places, self.arms), key=lambda pair: pair[0])]  # type: ignore[arg-type,return-value]


class Claim:
    """A kind of claim. Its fields are the keys of the configuration."""

    kind: ClassVar[str]

    def __str__(self) -> str:
        """The claim in words."""
        raise NotImplementedError

    def judge(self, evidence: Evidence) -> Judged:
        """The verdict. Raises BadValue for an arm that does not exist."""
        raise NotImplementedError


@dataclass(frozen=True)
class Compared:
    """The difference `this - other` over their common seeds.

    `alone` has the interval for itself; `together` those of all comparisons of a claim hold at once.
    """

    this: Evident
    other: Evident
    alone: Summary
    together: Summary
    matters: float

    def told(self, difference: Summary) -> str:
        """The comparison in words, with one of the two intervals."""
        low, high = _signed(difference, 1)
        names = f"{self.this.name} less {self.other.name} {difference.mean:+.4f}"
        return f"{names}, 95 % [{low:+.4f}, {high:+.4f}]: {verdict(low, high, self.matters)}"


def compare(this: Evident, other: Evident, matters: float, comparisons: int) -> Compared | str:
    """One of `comparisons` comparisons of two arms, or why they cannot be compared."""
    for arm in (this, other):
        if arm.unranked:
            return f"{arm.name} is not ranked: {arm.unranked}"
    seeds = sorted(this.losses.keys() & other.losses.keys())
    if len(seeds) < 2:
        return f"{this.name} and {other.name} have {len(seeds)} seeds in common; two are needed"
    pairs = [this.losses[seed] - other.losses[seed] for seed in seeds]
    return Compared(this, other, summary(pairs), summary(pairs, comparisons), matters)


class Worse(Claim):
    """All of some arms are worse than another by at least `matters`."""

    kind = "worse"
    relation = "worse than"
    sign = 1

    def __init__(
        self, *, arms: Sequence[Mapping[str, Any]], than: Mapping[str, Any] | None = None
    ) -> None:
        if not isinstance(arms, list) or not arms or not all(isinstance(a, Mapping) for a in arms):
            raise BadValue("ablation.claim.arms", arms, "must be a list of {key: value}")
        self.arms, self.than = arms, than

    def __str__(self) -> str:
        arms = " and ".join(map(_named, self.arms))
        other = _named(self.than) if self.than else "the baseline"
        return f"{arms} {self.relation} {other}"

    def judge(self, evidence: Evidence) -> Judged:
        other = evidence.arm(self.than) if self.than else evidence.baseline
        arms, matters = [evidence.arm(wanted) for wanted in self.arms], evidence.matters
        compared = [compare(arm, other, matters, len(arms)) for arm in arms]
        if problems := [one for one in compared if isinstance(one, str)]:
            return Judged(Outcome.UNDECIDED, "; ".join(problems))
        each = [self._one(one) for one in compared if isinstance(one, Compared)]
        return Judged(together([outcome for outcome, _ in each]), "; ".join(why for _, why in each))

    def _one(self, one: Compared) -> tuple[Outcome, str]:
        """All must hold, which needs no correction; that any does not is enough, which needs it."""
        alone = self._outcome(one.alone, one.matters)
        if alone is Outcome.SUPPORTED:
            return alone, one.told(one.alone)
        return self._outcome(one.together, one.matters), one.told(one.together)

    def _outcome(self, difference: Summary, matters: float) -> Outcome:
        return at_least(*_signed(difference, self.sign), matters)


class Better(Worse):
    """All of some arms are better than another by at least `matters`."""

    kind = "better"
    relation = "better than"
    sign = -1


class Equal(Worse):
    """All of some arms are as good as another: the whole interval is within `matters`."""

    kind = "equal"
    relation = "as good as"

    def _outcome(self, difference: Summary, matters: float) -> Outcome:
        return equal(*_signed(difference, 1), matters)


class Optimum(Claim):
    """Some inner arm beats both ends by at least `matters`.

    The intervals of all comparisons hold together, so the best arm need not be known beforehand.
    Refuted: each inner arm falls short of at least one end. Of a monotone curve, it does.
    """

    kind = "optimum"

    def __str__(self) -> str:
        return "one of the inner arms better than both ends"

    def judge(self, evidence: Evidence) -> Judged:
        first, *inner, last = evidence.along_axis()
        known = evidence.matters, 2 * len(inner)
        pairs = [(compare(first, arm, *known), compare(last, arm, *known)) for arm in inner]
        flat = [one for pair in pairs for one in pair]
        if problems := [one for one in flat if isinstance(one, str)]:
            return Judged(Outcome.UNDECIDED, "; ".join(dict.fromkeys(problems)))
        told = [(a, b) for a, b in pairs if isinstance(a, Compared) and isinstance(b, Compared)]
        outcomes = [self._arm(pair) for pair in told]
        best = max(told, key=lambda pair: min(one.together.mean for one in pair))
        because = "; ".join(one.told(one.together) for one in best)
        if Outcome.SUPPORTED in outcomes:
            return Judged(Outcome.SUPPORTED, because)
        refuted = set(outcomes) == {Outcome.REFUTED}
        return Judged(Outcome.REFUTED if refuted else Outcome.UNDECIDED, because)

    @staticmethod
    def _arm(pair: tuple[Compared, Compared]) -> Outcome:
        ends = {at_least(*_signed(one.together, 1), one.matters) for one in pair}
        if ends == {Outcome.SUPPORTED}:
            return Outcome.SUPPORTED
        return Outcome.REFUTED if ends & FALSE else Outcome.UNDECIDED


class PowerLaw(Claim):
    """The exponent is in an interval, and the law bends as claimed."""

    kind = "power_law"

    def __init__(self, *, exponent: Sequence[float], bend: str | None = None) -> None:
        given = exponent if isinstance(exponent, list) else []
        numbers = [v for v in given if isinstance(v, int | float)]
        if len(numbers) != 2 or numbers[0] >= numbers[1]:
            raise BadValue("ablation.claim.exponent", exponent, "must be [low, high]")
        if bend not in (None, "flattens", "steepens"):
            raise BadValue("ablation.claim.bend", bend, "must be flattens, steepens or null")
        self.low, self.high, self.bend = float(numbers[0]), float(numbers[1]), bend

    def __str__(self) -> str:
        bent = f", which {self.bend}" if self.bend else ""
        return f"a power law with an exponent from {self.low:g} to {self.high:g}{bent}"

    def judge(self, evidence: Evidence) -> Judged:
        fit = evidence.fit
        if fit is None or fit.exponent.low is None or fit.exponent.high is None:
            return Judged(Outcome.UNDECIDED, "there is no fit with an interval")
        low, high = fit.exponent.low, fit.exponent.high
        inside, outside = self.low <= low and high <= self.high, high < self.low or low > self.high
        each = [Outcome.SUPPORTED if inside else Outcome.REFUTED if outside else Outcome.UNDECIDED]
        because = f"exponent {fit.exponent.mean:.4f}, 95 % [{low:.4f}, {high:.4f}]"
        if self.bend:
            opposite = {"flattens": "steepens", "steepens": "flattens"}[self.bend]
            known = {self.bend: Outcome.SUPPORTED, opposite: Outcome.OPPOSITE}
            each.append(known.get(fit.word, Outcome.UNDECIDED))
            because += f"; {fit.word} (coefficient {fit.bend.mean:+.4f}"
            because += f", 95 % [{fit.bend.low:+.4f}, {fit.bend.high:+.4f}])"
        return Judged(together(each), because)


class All(Claim):
    """All claims of a list hold."""

    kind = "all"

    def __init__(self, *, claims: Sequence[Mapping[str, Any]]) -> None:
        if not isinstance(claims, list) or not claims:
            raise BadValue("ablation.claim.claims", claims, "must be a list of claims")
        self.claims = [claim(section) for section in claims]

    def __str__(self) -> str:
        return ", and ".join(map(str, self.claims))

    def judge(self, evidence: Evidence) -> Judged:
        each = [one.judge(evidence) for one in self.claims]
        told = [
            f"{one.kind} {judged.verdict} ({judged.because})"
            for one, judged in zip(self.claims, each)
        ]
        return Judged(together([judged.verdict for judged in each]), "; ".join(told))


FALSE = {Outcome.REFUTED, Outcome.OPPOSITE}
KINDS: dict[str, Callable[..., Claim]] = {
    one.kind: one for one in (Optimum, Worse, Better, Equal, PowerLaw, All)
}


def claim(section: Mapping[str, Any]) -> Claim:
    """The claim in a section of the configuration. Raises BadValue."""
    kind, rest = section.get("kind"), {k: v for k, v in section.items() if k != "kind"}
    if kind not in KINDS:
        raise BadValue("ablation.claim.kind", kind, f"must be one of {', '.join(KINDS)}")
    try:
        return KINDS[kind](**rest)
    except TypeError as error:
        raise BadValue(f"ablation.claim ({kind})", rest, str(error).partition("() ")[2]) from error


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome of a conjunction: refuted if one part does not hold; opposite if all parts are."""
    found = set(outcomes)
    if len(found) == 1:
        return found.pop()
    return Outcome.REFUTED if found & FALSE else Outcome.UNDECIDED


def _named(values: Mapping[str, Any]) -> str:
    """`n_head=4 lr=0.01`; full keys if the last parts are ambiguous."""
    last = {key: re.split("[./]", key)[-1] for key in values}
    short = len({*last.values()}) == len(last)
    return " ".join(f"{last[key] if short else key}={value}" for key, value in values.items())


def _signed(difference: Summary, sign: int) -> tuple[float, float]:
    """The interval of `sign * difference`."""
    assert difference.low is not None  # there are two seeds
    assert difference.high is not None
    ends = sorted((sign * difference.low, sign * difference.high))
    return ends[0], ends[1]
