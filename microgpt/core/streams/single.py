"""One stream for all, drawn in the order of use, as the original 200-line program does it."""

from random import Random

from microgpt.core.streams.base import Streams


class Single(Streams):
    """`Random(seed)` for every purpose: shuffle, then initial weights, then samples."""

    def __call__(self, purpose: str) -> Random:
        return self._generators.setdefault("all", Random(self.seed))
