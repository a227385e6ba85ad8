"""The interface of a source of documents."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from microgpt.core.check import BadValue, choice, fraction, integer
from microgpt.core.data import Corpus, Documents, Split, split_by_hash, split_shuffled

SPLITS = {"hash": split_by_hash, "shuffled": split_shuffled}


class Source:
    """Documents, their split into training, validation and test, and their batching (`corpus`).

    Validation is for curves and tuning; test is evaluated once, after the last step. `split` is `hash`,
    where equal documents lie in the same part, or `shuffled`, the common split by line.
    """

    corpus: type[Corpus] = Documents

    def __init__(
        self, *, val_fraction: float, test_fraction: float, split: str, split_seed: int
    ) -> None:
        self.val_fraction = fraction("val_fraction", val_fraction)
        self.test_fraction = fraction("test_fraction", test_fraction)
        if self.val_fraction + self.test_fraction >= 1:
            allowed = f"must leave something to train on beside val_fraction={val_fraction}"
            raise BadValue("test_fraction", test_fraction, allowed)
        self.splitting = choice("split", split, list(SPLITS))
        self.split_seed = integer("split_seed", split_seed, 0)

    @property
    def name(self) -> str:
        """The name of the data."""
        return type(self).__name__.lower()

    def documents(self) -> list[str]:
        """All documents, in a fixed order. Raises BadValue."""
        raise NotImplementedError

    def facts(self) -> Mapping[str, float]:
        """Known properties of the generating process, such as `entropy_rate` in nats."""
        return {}

    def nats(self, document: str) -> float | None:
        """-log of the probability of a document with its end; None if its process is not known."""
        return None

    def split(self, documents: Sequence[str]) -> Split:
        """The training, validation and test documents."""
        fractions = self.val_fraction, self.test_fraction
        parts = _split(self.splitting, tuple(documents), *fractions, self.split_seed)
        return Split(*map(list, parts))


@lru_cache(maxsize=4)  # the runs of a process mostly have the same data
def _split(
    name: str, documents: tuple[str, ...], val_fraction: float, test_fraction: float, seed: int
) -> Split:
    fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    return SPLITS[name](documents, **fractions, split_seed=seed)
