"""The interface of random streams: a generator per purpose, and their state for checkpoints."""

from random import Random
from struct import pack, unpack


class Streams:
    """Random generators by purpose; a subclass decides which purposes share one."""

    def __init__(self, *, seed: int) -> None:
        self.seed = seed
        self._generators: dict[str, Random] = {}

    def __call__(self, purpose: str) -> Random:
        """The generator of `purpose`, with the state that earlier draws left."""
        raise NotImplementedError

    def state(self) -> dict[str, tuple[int, ...]]:
        """The 625 integers of each generator in use: 624 words of MT19937 and the position in them.

        `gauss` draws two numbers at a time; if the second is pending, its bits are the 626th integer.
        """
        states = {name: rng.getstate()[1:] for name, rng in self._generators.items()}
        return {
            name: words if ahead is None else words + unpack("q", pack("d", ahead))
            for name, (words, ahead) in states.items()
        }

    def restore(self, state: dict[str, tuple[int, ...]]) -> None:
        """Sets the generators to what `state` returned."""
        for name, words in state.items():
            generator = self._generators.setdefault(name, Random())
            (ahead,) = unpack("d", pack("q", *words[625:])) if words[625:] else (None,)
            generator.setstate((Random.VERSION, tuple(words[:625]), ahead))
