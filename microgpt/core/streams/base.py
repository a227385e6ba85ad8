"""The contract: a generator for every purpose, and the state of all of them for a checkpoint."""

from random import Random


class Streams:
    """Gives each purpose its generator; the subclass decides which purposes share one."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, Random] = {}

    def __call__(self, purpose: str) -> Random:
        """The generator of `purpose`; it goes on where the last caller left it."""
        raise NotImplementedError

    def state(self) -> dict[str, tuple[int, ...]]:
        """The 625 integers of each generator in use (624 words of MT19937 and the position in them)."""
        return {name: rng.getstate()[1] for name, rng in self._generators.items()}

    def restore(self, state: dict[str, tuple[int, ...]]) -> None:
        """Set the generators to what `state` returned."""
        for name, words in state.items():
            generator = self._generators.setdefault(name, Random())
            generator.setstate((Random.VERSION, tuple(words), None))
