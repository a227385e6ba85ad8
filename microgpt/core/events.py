"""The events of a training run, which callbacks receive."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Metrics: TypeAlias = dict[str, float]


class Stepped(NamedTuple):
    """Step `step`, counted from 1, is done; `metrics` is empty unless the step is logged."""

    step: int
    loss: float
    tokens: int
    metrics: Metrics


@dataclass(frozen=True)
class Checkpointed:
    """The complete state of a run as plain numbers; resuming from it is bit-exact."""

    step: int
    shapes: dict[str, tuple[int, int]]
    weights: dict[str, list[float]]  # flat, in the order of the state dict
    slots: dict[str, dict[str, list[float]]]  # of the optimizer, and weights kept: -> name -> flat
    streams: dict[str, tuple[int, ...]]  # random generators: purpose -> state
    seconds: float  # of training so far
    best: tuple[int, float] | None = None  # step and loss of the best evaluation, if it is kept


@dataclass(frozen=True)
class Sampled:
    """Documents drawn after the last step."""

    samples: list[str]


Event: TypeAlias = Stepped | Checkpointed | Sampled
Callback: TypeAlias = Callable[[Event], None]


class Diverged(ArithmeticError):
    """Training diverged: a loss, norm or weight is not finite at step `step`."""

    def __init__(self, step: int, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(f"diverged at step {step}: {reason}")
