"""What a training run says of itself. Callbacks receive these and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Metrics: TypeAlias = dict[str, float]


class Stepped(NamedTuple):
    """Step `step`, counted from 1, is done; `metrics` is empty unless it is one to record."""

    step: int
    loss: float
    tokens: int
    metrics: Metrics


@dataclass(frozen=True)
class Checkpointed:
    """All that a run needs to go on, bit for bit, as plain numbers."""

    step: int
    shapes: dict[str, tuple[int, int]]
    weights: dict[str, list[float]]  # flat, in the order of the state dict
    slots: dict[str, dict[str, list[float]]]  # the optimizer's: slot -> weight -> flat
    streams: dict[str, tuple[int, ...]]
    seconds: float  # spent so far


@dataclass(frozen=True)
class Sampled:
    """Documents drawn after the last step."""

    samples: list[str]


Event: TypeAlias = Stepped | Checkpointed | Sampled
Callback: TypeAlias = Callable[[Event], None]


class Diverged(ArithmeticError):
    """A loss that is not finite, at step `step`."""

    def __init__(self, step: int, reason: str) -> None:
        self.step, self.reason = step, reason
        super().__init__(f"diverged at step {step}: {reason}")
