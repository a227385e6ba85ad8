"""Linear decay to zero."""

from microgpt.core.schedule.base import Schedule


class Linear(Schedule):
    """lr (1 - progress), as in the original program (see also Bergsma et al. 2025, 2502.15938)."""

    def decay(self, progress: float) -> float:
        return 1 - progress
