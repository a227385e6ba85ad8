"""A sweep with its arms and runs, as far as a store or a lock knows them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from microgpt.ablation.statistics.summary import Interval
from microgpt.protocol.stopping import FIXED, interval_of, stopping_of
from microgpt.run.held_out import HeldOut
from microgpt.run.record import FINISHED
from microgpt.trust import Trust

MISSING = "missing"
DAMAGED = "damaged"  # finished, but a file of its record cannot be read


@dataclass(frozen=True)
class Run:
    """A job of a sweep with its run.

    `rows` are the logged steps with clock times, `metrics` the last value of each without them. For a
    run that did not finish only the tags are known.
    """

    name: str
    arm: str
    seed: int
    status: str
    differs: Mapping[str, str]  # swept keys and values, without the seed
    signature: str = ""  # of its job
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: Sequence[Mapping[str, float]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    samples_sha256: str | None = None
    ended: float | None = None  # seconds since 1970
    samples: tuple[str, ...] = ()
    held_out: HeldOut | None = None  # the nats of every test document
    source_files: Mapping[str, str] = field(default_factory=dict)  # module -> sha256

    @property
    def evaluations(self) -> list[Mapping[str, float]]:
        """The logged steps at which it was evaluated."""
        return [row for row in self.rows if "val/loss" in row]

    @property
    def reason(self) -> str | None:
        """Why there is no result, in one line; None if there is one."""
        if self.status == FINISHED:
            return None
        step = self.tags.get("failed_at") or self.tags.get("stopped_at")
        place = f" at {'step ' * step.isdigit()}{step}" if step else ""
        why = self.tags.get("reason")
        return f"{self.status}{place}{f': {why}' if why else ''}"


@dataclass(frozen=True)
class Arm:
    """The runs that differ only in the seed."""

    name: str
    differs: Mapping[str, str]
    runs: tuple[Run, ...]
    figure: str = "val/loss"  # the metric that judges

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.status == FINISHED]

    @property
    def seeds(self) -> set[int]:
        return {run.seed for run in self.runs}

    def losses(self, metric: str = "") -> dict[int, float]:
        """The last value of a metric of each finished run, by seed; of the one that judges by default."""
        key = metric or self.figure
        return {run.seed: run.metrics[key] for run in self.finished if key in run.metrics}


@dataclass(frozen=True)
class Sweep:
    """A sweep: its question, and its arms in the order of the grid."""

    id: str
    signature: str
    source: str
    name: str
    experiment: str | None
    description: str | None
    ablation: Mapping[str, Any] | None
    config: Mapping[str, Any]
    arms: tuple[Arm, ...]
    parent: str  # the id of its MLflow run
    documents: tuple[str, ...] | None  # the data, if the store has them
    trust: Trust  # what the runs' configurations may name
    overrides: Sequence[str] = ()  # of the command line
    protocol: Mapping[str, Any] | None = None  # frozen, of the latest start
    config_dir: str | None = None  # where own configurations were, as the command named it

    @property
    def figure(self) -> str:
        """The metric that judges."""
        return self.arms[0].figure

    @property
    def is_sequence(self) -> bool:
        """Whether seeds were added until they were enough."""
        return stopping_of(self.ablation) != FIXED

    @property
    def interval(self) -> Interval:
        """The interval of a mean over seeds."""
        return interval_of(self.ablation)

    def with_seeds(self, seeds: Collection[int]) -> "Sweep":
        """The sweep as it was with some of its seeds."""
        kept = [
            replace(arm, runs=tuple(run for run in arm.runs if run.seed in seeds))
            for arm in self.arms
        ]
        return replace(self, arms=tuple(kept))

    @property
    def runs(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.runs]

    @property
    def unfinished(self) -> list[Run]:
        return [run for run in self.runs if run.status != FINISHED]
