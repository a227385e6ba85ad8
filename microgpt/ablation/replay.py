"""A run trained again, and held against what a record says of it, figure by figure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from struct import pack, unpack

from microgpt.ablation.record import Series
from microgpt.core.events import Checkpointed, Diverged, Event, Metrics, Sampled, Stepped
from microgpt.core.trainer import Trainer
from microgpt.run.identity import parameters_sha256


@dataclass(frozen=True)
class Difference:
    """Where the record and the run trained again part for the first time."""

    verdict: str  # "diverged at step 20 in val/loss, by 1 ulp", or what else is not the same
    says: str  # who says what


class Parted(Exception):
    """The run trained again is another: no need to go on."""

    def __init__(self, difference: Difference) -> None:
        self.difference = difference
        super().__init__(difference.verdict)


@dataclass
class Again:
    """What training once more gave."""

    rows: list[Metrics] = field(default_factory=list)  # as in metrics.jsonl, less `cost/`
    samples: list[str] | None = None  # None: none were drawn
    parameters_sha256: str | None = None
    failed_at: int | None = None
    reason: str | None = None


def again(trainer: Trainer, watch: Callable[[Event], None] = lambda event: None) -> Again:
    """Train to the end, or to where the loss is not finite; keep nothing on disk."""
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
Told = dict[int, dict[str, list[float]]]  # step -> metric -> values, of which there should be one


@dataclass
class Witnesses:
    """What each part of a record says of each figure; each step is asked for once."""

    said: dict[str, Told]  # by the name of the witness

    def check(self, step: int, figures: Metrics, judge: str = "trained again") -> None:
        """Raises Parted if a witness tells anything else of this step than `judge`."""
        told = {who: said.pop(step, {}) for who, said in self.said.items()}
        names = dict.fromkeys([*figures, *(name for said in told.values() for name in said)])
        for name in names:
            figure = figures.get(name)
            values = {who: said.get(name, []) for who, said in told.items()}
            if not all(_agrees(values[who], figure, who) for who in values):
                raise Parted(_difference(step, name, values, judge, figure))

    def finish(self) -> None:
        """Raises Parted if a witness tells of a step that there was not."""
        for step in sorted({step for said in self.said.values() for step in said}):
            self.check(step, {})


def witnesses(rows: Sequence[Metrics], series: Series) -> Witnesses:
    """Those of a run in a store: its metrics.jsonl, and the store's database."""
    told: Told = {}
    for row in rows:
        for name, value in figures_of(row).items():
            told.setdefault(int(row["step"]), {}).setdefault(name, []).append(value)
    return Witnesses({ROWS: told, SERIES: by_step(series)})


def by_step(series: Series) -> Told:
    """The histories of metrics, turned."""
    told: Told = {}
    for name, values in series.items():
        for step, value in values:
            told.setdefault(step, {}).setdefault(name, []).append(value)
    return told


def figures_of(row: Mapping[str, float]) -> Metrics:
    """A row of metrics.jsonl or of the training, less its step and what a clock measured."""
    return {n: value for n, value in row.items() if n != "step" and not n.startswith("cost/")}


def _agrees(values: list[float], figure: float | None, who: str) -> bool:
    """Whether the values are the figure, once. A database has none that are not finite."""
    if figure is None or (who != ROWS and not math.isfinite(figure)):
        return not values
    return len(values) == 1 and same(values[0], figure)


def same(a: float, b: float) -> bool:
    """Whether two figures are one; SQLite drops the sign of -0.0, and a NaN is a NaN."""
    return a == b or (a != a and b != b)


def ulps(a: float, b: float) -> int | None:
    """How many doubles lie from `a` to `b`; None if one is not finite."""
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
    """Raises Parted unless two states are one, but for the time spent."""
    slots = [(slot, kept.slots.get(slot, {}), now.slots[slot]) for slot in now.slots]
    for part, before, after in [("weights", kept.weights, now.weights), *slots]:
        if _hash(before) != _hash(after):
            raise Parted(Difference(f"diverged at step {now.step} in {file}", f"other {part}"))
    if kept.streams != now.streams or kept.step != now.step:
        raise Parted(Difference(f"diverged at step {now.step} in {file}", "other generators"))


def _hash(weights: Mapping[str, Sequence[float]]) -> str:
    """That of all bits, in the order of the names: a file has an order of its own."""
    return parameters_sha256(dict(sorted(weights.items())))
