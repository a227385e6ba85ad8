"""Decay by the inverse square root of the step."""

from math import sqrt

from microgpt.core.schedule.base import Schedule


class InverseSqrt(Schedule):
    """lr sqrt(warmup_steps / step) after the warm-up, whatever the length of the run.

    Vaswani et al. 2017, arXiv 1706.03762, equation 3. Without a warm-up it is lr / sqrt(step).
    """

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        if step < self.warmup_steps:
            return super().__call__(lr, step, num_steps)
        return lr * sqrt(max(1, self.warmup_steps) / (step + 1))
