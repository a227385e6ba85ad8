"""One stream a purpose, so that a change to one part of a run leaves the chance of all others alone."""

from random import Random

from microgpt.core.streams.base import Streams


class Independent(Streams):
    """`Random(f"{seed}/{purpose}")`: arms with one seed see the same documents in the same order."""

    def __call__(self, purpose: str) -> Random:
        if purpose not in self._generators:
            self._generators[purpose] = Random(f"{self.seed}/{purpose}")
        return self._generators[purpose]
