"""Trains a run again and compares it with its record, figure by figure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack, unpack

from microgpt.ablation.records.record import UNREPEATED, Series
from microgpt.core.events import Checkpointed, Diverged, Event, Metrics, Sampled, Stepped
from microgpt.core.trainer import Trainer
from microgpt.run.identity import parameters_sha256


@dataclass(frozen=True)
class Difference:
    """The first difference between the record and the repetition."""

    verdict: str  # such as "diverged at step 20 in val/loss, by 1 ulp"
    says: str  # the values on each side
    explained: bool = False  # whether this is the cause, too: nothing else has to be suspected


class Parted(Exception):
    """The repetition differs from the record; ends the comparison."""

    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        super().__init__(difference.verdict)


@dataclass
class Again:
    """The result of training again."""

    rows: list[Metrics] = field(default_factory=list)  # as in metrics.jsonl, without `cost/`
    samples: list[str] | None = None  # None: none were drawn
    parameters_sha256: str | None = None
    failed_at: int | None = None
    reason: str | None = None


def again(trainer: Trainer, watch: Callable[[Event], None] = lambda event: None) -> Again:
    """Trains to the end, or to divergence, without writing to disk."""
    result = Again()

    def keep(event: Event) -> None:
        match event:
            case Stepped(metrics=metrics) if metrics:
                result.rows.append({"step": event.step, **figures_of(metrics)})
            case Sampled():
                result.samples = list(event.samples)

    trainer.callbacks += [keep, watch]
    try:
        trainer.run()
        result.parameters_sha256 = parameters_sha256(trainer.engine.flat(trainer.weights))
    except Diverged as error:
        result.failed_at, result.reason = error.step, error.reason
    return result


ROWS = "metrics.jsonl"
SERIES = "the store's metrics"
Told = dict[int, dict[str, list[float]]]  # step -> metric -> values; there should be one


@dataclass
class Witnesses:
    """The values of each metric in each part of a record; each step is checked once."""

    said: dict[str, Told]  # by the part's name

    def check(self, step: int, figures: Metrics, judge: str = "trained again") -> None:
        """Raises Parted if a part of the record has other values for this step than `figures`."""
        told = {who: said.pop(step, {}) for who, said in self.said.items()}
        names = dict.fromkeys([*figures, *(name for said in told.values() for name in said)])
        for name in names:
            figure = figures.get(name)
            values = {who: said.get(name, []) for who, said in told.items()}
            if not all(_agrees(values[who], figure, who) for who in values):
                raise Parted(_difference(step, name, values, judge, figure))

    def finish(self) -> None:
        """Raises Parted if a part of the record has steps that were not trained."""
        for step in sorted({step for said in self.said.values() for step in said}):
            self.check(step, {})


def witnesses(rows: Sequence[Metrics], series: Series) -> Witnesses:
    """The parts of a run's record in a store: metrics.jsonl, and the store's database."""
    told: Told = {}
    for row in rows:
        for name, value in figures_of(row).items():
            told.setdefault(int(row["step"]), {}).setdefault(name, []).append(value)
    return Witnesses({ROWS: told, SERIES: by_step(series)})


def by_step(series: Series) -> Told:
    """Transposes the histories of metrics to step -> metric -> values."""
    told: Told = {}
    for name, values in series.items():
        for step, value in values:
            told.setdefault(step, {}).setdefault(name, []).append(value)
    return told


def figures_of(row: Mapping[str, float]) -> Metrics:
    """The metrics of a logged step, without what no run repeats."""
    return {n: value for n, value in row.items() if n != "step" and not n.startswith(UNREPEATED)}


def _agrees(values: list[float], figure: float | None, who: str) -> bool:
    """Whether `values` is exactly one value, equal to `figure`.

    A database has NaN, or nothing, for what is not finite, and for held-out losses of a run that diverged.
    """
    if figure is None or (who != ROWS and not math.isfinite(figure)):
        return not values or (who != ROWS and all(value != value for value in values))
    return len(values) == 1 and same(values[0], figure)


def same(a: float, b: float) -> bool:
    """Whether two figures are equal; nan equals nan, and -0.0 equals 0.0, since SQLite drops the sign."""
    return a == b or (a != a and b != b)


def ulps(a: float, b: float) -> int | None:
    """The distance from `a` to `b` in units in the last place; None if one is not finite."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return None
    places = [unpack("<q", pack("<d", x))[0] for x in (a, b)]
    places = [place if place >= 0 else -(place & (2**63 - 1)) for place in places]
    return int(abs(places[0] - places[1]))


def _difference(
    step: int, name: str, told: Mapping[str, list[float]], judge: str, figure: float | None
) -> Difference:
    figures = [] if figure is None else [figure]
    far = max(
        (ulps(a, b) or 0 for values in told.values() for a in values for b in figures), default=0
    )
    shown = {**told, judge: figures}
    says = [
        f"{who} {' and '.join(map(repr, values)) or 'nothing'}" for who, values in shown.items()
    ]
    by = f", by {far:,} ulp" if far else ""
    return Difference(f"diverged at step {step} in {name}{by}", "; ".join(says))


def check_state(file: str, kept: Checkpointed, now: Checkpointed) -> None:
    """Raises Parted unless two states are equal, except for the time."""
    if kept.shapes != now.shapes:
        raise Parted(Difference(f"diverged at step {now.step} in {file}", "other shapes"))
    names = [*now.slots, *(slot for slot in kept.slots if slot not in now.slots)]
    slots = [(slot, kept.slots.get(slot, {}), now.slots.get(slot, {})) for slot in names]
    for part, before, after in [("weights", kept.weights, now.weights), *slots]:
        if _hash(before) != _hash(after):
            raise Parted(Difference(f"diverged at step {now.step} in {file}", f"other {part}"))
    if kept.streams != now.streams or kept.step != now.step:
        raise Parted(Difference(f"diverged at step {now.step} in {file}", "other generators"))


def _hash(weights: Mapping[str, Sequence[float]]) -> str:
    """The hash of all weights, sorted by name, since a file may have another order."""
    return parameters_sha256(dict(sorted(weights.items())))
