"""Weights that are kept beside the trained ones: their moving average, and the best so far."""

from collections.abc import Mapping

from microgpt.core.engine.base import Engine, Weights

Flat = Mapping[str, list[float]]  # weight name -> values


class Average:
    """The exponential moving average of the weights after each step, a = d a + (1 - d) w.

    Polyak & Juditsky 1992; Morales-Brotons et al. 2024, arXiv 2411.18704. d is `decay`, but t / (t + 1)
    at step t + 1 while that is less: the mean of all weights so far, without those before training.
    """

    SLOT = "average"  # in a checkpoint

    def __init__(self, ops: Engine, weights: Weights, decay: float) -> None:
        self.ops, self.decay = ops, decay
        self.weights = ops.zeros_like(weights)

    def add(self, weights: Weights, step: int) -> None:
        """Adds the weights after step `step`, counted from 1."""
        ops, decay = self.ops, min(self.decay, (step - 1) / step)
        sums, added = ops.joined(self.weights), ops.joined(weights)
        for name, old in sums.items():
            ops.assign(old, decay * old + (1 - decay) * ops.detached(added[name]))


class Best:
    """The weights of the evaluation with the lowest validation loss.

    patience  steps without a lower one after which training ends
    """

    SLOT = "best"  # in a checkpoint

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.step, self.loss = 0, float("inf")
        self.weights: Flat = {}

    def offer(self, step: int, loss: float, weights: Flat) -> None:
        """Keeps the weights of step `step` if their loss is lower than all before."""
        if loss < self.loss:
            self.step, self.loss, self.weights = step, loss, weights

    def ends(self, step: int) -> bool:
        """Whether training ends after this step."""
        return step - self.step >= self.patience
