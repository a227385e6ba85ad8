"""The interface of a learning-rate schedule, with the warm-up that all share."""

from microgpt.core.check import integer


class Schedule:
    """Linear warm-up over `warmup_steps` (Goyal et al. 2017, arXiv 1706.02677), then `decay`."""

    def __init__(self, *, warmup_steps: int) -> None:
        self.warmup_steps = integer("warmup_steps", warmup_steps, 0)

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        """The learning rate of step `step`, counted from 0, of `num_steps`; `lr` is the peak."""
        if step < self.warmup_steps:
            return lr * (step + 1) / self.warmup_steps
        return lr * self.decay((step - self.warmup_steps) / (num_steps - self.warmup_steps))

    def decay(self, progress: float) -> float:
        """The factor of the peak rate at `progress` in [0, 1), the fraction done after the warm-up."""
        raise NotImplementedError
