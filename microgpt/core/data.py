"""Documents as tokens: splits, corpora and batches."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import ClassVar, NamedTuple

from microgpt.core.tokenizer import CharTokenizer


def read_documents(text: str) -> list[str]:
    """One document per line, stripped of surrounding white space; empty lines are skipped."""
    return [line.strip() for line in text.strip().split("\n") if line.strip()]


def digest(documents: Sequence[str], batching: str) -> str:
    """The identity of the data: sha256 of the name of the batching and of the documents.

    Each document, in UTF-8, is prefixed with its length in bytes, so that different lists have
    different digests.
    """
    return _digest(tuple(documents), batching)


@lru_cache(maxsize=4)  # the runs of a process mostly have the same data
def _digest(documents: tuple[str, ...], batching: str) -> str:
    state = sha256(f"{batching}\n".encode())
    for document in documents:
        content = document.encode()
        state.update(f"{len(content)}\n".encode() + content)
    return state.hexdigest()


class Split(NamedTuple):
    """The documents for training, for curves and tuning, and for the final evaluation."""

    train: list[str]
    validation: list[str]
    test: list[str]


def split_by_hash(
    documents: Sequence[str], *, val_fraction: float, test_fraction: float, split_seed: int
) -> Split:
    """Assigns documents by their hashes; training is in file order, held-out parts in hash order.

    The hash is sha256(f"{split_seed}/{document}") as a number in [0, 1). Validation takes the hashes
    below `val_fraction`, test the next `test_fraction`. Equal documents therefore lie in the same
    part, and adding documents moves no other. In hash order the first n validation documents are
    a random sample of all, even if the file is sorted.
    """
    hashes = (sha256(f"{split_seed}/{document}".encode()).hexdigest() for document in documents)
    pairs = [(int(digits[:13], 16) / 16**13, text) for digits, text in zip(hashes, documents)]
    held_out = val_fraction + test_fraction
    validation = sorted(pair for pair in pairs if pair[0] < val_fraction)
    test = sorted(pair for pair in pairs if val_fraction <= pair[0] < held_out)
    train = [document for place, document in pairs if place >= held_out]
    return Split(train, [document for _, document in validation], [text for _, text in test])


def split_shuffled(
    documents: Sequence[str], *, val_fraction: float, test_fraction: float, split_seed: int
) -> Split:
    """Shuffles the documents with `Random(split_seed)`; train first, then validation, then test.

    With 0.1, 0.1 and seed 42 it is the split of Karpathy's makemore lectures. Duplicate documents may
    lie in different parts; use it to compare with published results.
    """
    shuffled = list(documents)
    Random(split_seed).shuffle(shuffled)
    first = int((1 - val_fraction - test_fraction) * len(shuffled))
    second = int((1 - test_fraction) * len(shuffled))
    return Split(shuffled[:first], shuffled[first:second], shuffled[second:])


def split_text(documents: Sequence[str], *, val_fraction: float, test_fraction: float) -> Split:
    """Cuts each text in three: its beginning is for training, then validation, then test."""
    parts = Split([], [], [])
    for text in documents:
        first = int((1 - val_fraction - test_fraction) * len(text))
        second = int((1 - test_fraction) * len(text))
        for part, piece in zip(parts, (text[:first], text[first:second], text[second:])):
            part.extend([piece] if piece else [])
    return parts


class Batch(NamedTuple):
    """The input of one forward pass: T tokens of one or more documents, concatenated."""

    tokens: list[int]  # [T]
    targets: list[int]  # [T] the next token of each
    spans: list[tuple[int, int]]  # (start, stop) of each document


def make_batch(sequences: Sequence[Sequence[int]]) -> Batch:
    """Concatenates sequences of ids; the targets of a sequence are its ids from the second on."""
    tokens: list[int] = []
    targets: list[int] = []
    spans = []
    for ids in sequences:
        spans.append((len(tokens), len(tokens) + len(ids) - 1))
        tokens += ids[:-1]
        targets += ids[1:]
    return Batch(tokens, targets, spans)


class Corpus:
    """A split of documents with its tokenizer; a subclass defines the sequences of a batch."""

    batching: ClassVar[str]  # part of the data's digest

    def __init__(self, split: Split, tokenizer: CharTokenizer, rng: Random) -> None:
        self.split, self.tokenizer = split, tokenizer
        self.nats: Callable[[str], float | None] = lambda document: None  # the source's

    def batch(self, number: int, batch_size: int, block_size: int) -> Batch:
        """Training batch `number`, counted from 0, of `batch_size` sequences."""
        raise NotImplementedError

    def held_out(
        self, part: Sequence[str], count: int, batch_size: int, block_size: int
    ) -> Iterator[Batch]:
        """The first `count` sequences of a held-out part, in batches."""
        raise NotImplementedError

    def optimum(self, part: Sequence[str], count: int, block_size: int) -> float | None:
        """Nats of the first `count` sequences under the process that made the documents.

        None if it is not known, or if a sequence is not a whole document.
        """
        return None

    @property
    def begin(self) -> int:
        """The id before the first character of a sample."""
        return self.tokenizer.bos

    def tokens(self, num_batches: int, batch_size: int, block_size: int) -> int:
        """The number of predicted tokens in the first `num_batches` batches."""
        raise NotImplementedError

    def cut(self, block_size: int) -> int:
        """The number of documents that `block_size` truncates."""
        return 0


class Documents(Corpus):
    """One sequence is a document between two BOS, truncated to `block_size` predicted tokens.

    The training part is shuffled once, and then cycled through in that order.
    """

    batching = "documents"

    def __init__(self, split: Split, tokenizer: CharTokenizer, rng: Random) -> None:
        rng.shuffle(split.train)
        super().__init__(split, tokenizer, rng)

    def batch(self, number: int, batch_size: int, block_size: int) -> Batch:
        first, train = number * batch_size, self.split.train
        documents = [train[i % len(train)] for i in range(first, first + batch_size)]
        return self._rows(documents, block_size)

    def held_out(
        self, part: Sequence[str], count: int, batch_size: int, block_size: int
    ) -> Iterator[Batch]:
        documents = part[:count]
        for i in range(0, len(documents), batch_size):
            yield self._rows(documents[i : i + batch_size], block_size)

    def optimum(self, part: Sequence[str], count: int, block_size: int) -> float | None:
        total = 0.0
        for document in part[:count]:
            nats = self.nats(document)
            if nats is None or len(document) + 1 > block_size:
                return None
            total += nats
        return total

    def tokens(self, num_batches: int, batch_size: int, block_size: int) -> int:
        lengths = [min(len(document) + 1, block_size) for document in self.split.train]
        rounds, rest = divmod(num_batches * batch_size, len(lengths))
        return rounds * sum(lengths) + sum(lengths[:rest])

    def cut(self, block_size: int) -> int:
        return sum(len(text) + 1 > block_size for part in self.split for text in part)

    def _rows(self, documents: Sequence[str], block_size: int) -> Batch:
        encode = self.tokenizer.document
        return make_batch([encode(document)[: block_size + 1] for document in documents])


class Blocks(Corpus):
    """One sequence is a window of `block_size` predicted tokens of running text.

    Texts are joined by a BOS. Training windows begin at random positions, drawn by a generator seeded
    for each batch; held-out windows are consecutive.
    """

    batching = "blocks"

    def __init__(self, split: Split, tokenizer: CharTokenizer, rng: Random) -> None:
        super().__init__(split, tokenizer, rng)
        self._seed = rng.getrandbits(64)
        self._train = self._ids(split.train)

    @property
    def begin(self) -> int:
        """The id of a line feed, or BOS if the text has none."""
        return (
            self.tokenizer.encode("\n")[0] if "\n" in self.tokenizer.characters else super().begin
        )

    def batch(self, number: int, batch_size: int, block_size: int) -> Batch:
        rng, last = Random(f"{self._seed}/{number}"), max(1, len(self._train) - block_size)
        starts = [rng.randrange(last) for _ in range(batch_size)]
        return make_batch([self._train[i : i + block_size + 1] for i in starts])

    def held_out(
        self, part: Sequence[str], count: int, batch_size: int, block_size: int
    ) -> Iterator[Batch]:
        ids = self._ids(part)
        windows = [ids[i : i + block_size + 1] for i in range(0, len(ids) - 1, block_size)][:count]
        for i in range(0, len(windows), batch_size):
            yield make_batch(windows[i : i + batch_size])

    def tokens(self, num_batches: int, batch_size: int, block_size: int) -> int:
        return num_batches * batch_size * min(block_size, len(self._train) - 1)

    def _ids(self, texts: Sequence[str]) -> list[int]:
        """The ids of the texts, joined by BOS."""
        return [i for text in texts for i in self.tokenizer.document(text)[:-1]][1:]
