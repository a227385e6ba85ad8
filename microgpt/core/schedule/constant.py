"""No decay."""

from microgpt.core.schedule.base import Schedule


class Constant(Schedule):
    """The peak rate throughout."""

    def decay(self, progress: float) -> float:
        return 1.0
