"""One random generator for all purposes, as in the original 200-line program."""

from random import Random

from microgpt.core.streams.base import Streams


class Single(Streams):
    """`Random(seed)` for every purpose, drawn in order of use: shuffle, initial weights, samples."""

    def __call__(self, purpose: str) -> Random:
        return self._generators.setdefault("all", Random(self.seed))
