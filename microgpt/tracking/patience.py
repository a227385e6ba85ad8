"""When to try again what a store has refused."""

from time import monotonic

FIRST = 1.0  # seconds before what failed is tried again
LONGEST = 60.0  # seconds before what failed again and again is


class Patience:
    """When to try again what has failed: at longer and longer intervals."""

    def __init__(self) -> None:
        self.problem: str | None = None  # what failed last; None if it did not
        self._pause, self._tried, self._took = FIRST, 0.0, 0.0

    def note(self, problem: str | None, begun: float) -> None:
        """A try that began then has ended so."""
        self._pause = min(2 * self._pause, LONGEST) if problem else FIRST
        self.problem, self._tried, self._took = problem, monotonic(), monotonic() - begun

    def is_due(self, asked: bool) -> bool:
        """Whether to try now. Who waits for it in the end tries what has not just taken as long in vain."""
        pause = 2 * self._took if asked else self._pause
        return self.problem is None or monotonic() >= self._tried + pause
