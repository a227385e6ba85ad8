"""A constant learning rate."""

from microgpt.core.schedule.base import Schedule


class Constant(Schedule):
    """The peak rate at every step."""

    def decay(self, progress: float) -> float:
        return 1.0
