"""The contract of a schedule, and the warm-up that all of them share."""

from microgpt.core.check import integer


class Schedule:
    """Linear warm-up over `warmup_steps` (Goyal et al. 2017, arXiv 1706.02677), then `decay`."""

    def __init__(self, *, warmup_steps: int) -> None:
        self.warmup_steps = integer("warmup_steps", warmup_steps, 0)

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        """The learning rate of step `step`, counted from 0, of `num_steps`; its peak is `lr`."""
        if step < self.warmup_steps:
            return lr * (step + 1) / self.warmup_steps
        return lr * self.decay((step - self.warmup_steps) / (num_steps - self.warmup_steps))

    def decay(self, progress: float) -> float:
        """The share of the peak rate at `progress` in [0, 1) of the way after the warm-up."""
        raise NotImplementedError
