"""A random generator per purpose, so that changing one part of a run changes no other part's numbers."""

from random import Random

from microgpt.core.streams.base import Streams


class Independent(Streams):
    """`Random(f"{seed}/{purpose}")`: runs with the same seed see the documents in the same order."""

    def __call__(self, purpose: str) -> Random:
        if purpose not in self._generators:
            self._generators[purpose] = Random(f"{self.seed}/{purpose}")
        return self._generators[purpose]
