"""Documents as tokens: splits, corpora, and the batches of rows that a model is given."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import ClassVar, NamedTuple

from microgpt.core.tokenizer import CharTokenizer


def read_documents(text: str) -> list[str]:
    """One document a line, stripped of white space around it; empty lines are none."""
    return [line.strip() for line in text.strip().split("\n") if line.strip()]


def digest(documents: Sequence[str], batching: str) -> str:
    """The identity of the data: sha256 over how documents become batches, and over the documents.

    Each document as UTF-8 follows its length in bytes, so that no two lists have one digest.
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
    """Documents to train on, to tune and draw curves on, and to judge on once, at the end."""

    train: list[str]
    validation: list[str]
    test: list[str]


def split_by_hash(
    documents: Sequence[str], *, val_fraction: float, test_fraction: float, split_seed: int
) -> Split:
    """Training documents in file order, held-out ones in the order of their hashes.

    sha256(f"{split_seed}/{document}"), read as a fraction of 1, is a document's place. Validation has
    the places below `val_fraction`, test the `test_fraction` above it. So a document that stands
    twice never lies in two parts, and the split depends on nothing else. The order of the hashes
    makes a first part of the validation documents a fair sample of all of them, even when the
    file is sorted.
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
    """The documents shuffled by `Random(split_seed)`: first train, then validation, then test.

    With 0.1, 0.1 and seed 42 it is the split of Karpathy's makemore lectures. A document that stands
    twice may lie in two parts: for comparison with what others published.
    """
    shuffled = list(documents)
    Random(split_seed).shuffle(shuffled)
    first = int((1 - val_fraction - test_fraction) * len(shuffled))
    second = int((1 - test_fraction) * len(shuffled))
    return Split(shuffled[:first], shuffled[first:second], shuffled[second:])


def split_text(documents: Sequence[str], *, val_fraction: float, test_fraction: float) -> Split:
    """Each text cut in three: its beginning to train on, then validation, then test."""
    parts = Split([], [], [])
    for text in documents:
        first = int((1 - val_fraction - test_fraction) * len(text))
        second = int((1 - test_fraction) * len(text))
        for part, piece in zip(parts, (text[:first], text[first:second], text[second:])):
            part.extend([piece] if piece else [])
    return parts


class Batch(NamedTuple):
    """The rows of one pass: T tokens of one or more documents, one after another."""

    tokens: list[int]  # [T]
    targets: list[int]  # [T] the id that follows each token
    spans: list[tuple[int, int]]  # rows start..stop-1 are one document


def make_batch(sequences: Sequence[Sequence[int]]) -> Batch:
    """Each sequence of ids predicts its second to last id from those before."""
    tokens: list[int] = []
    targets: list[int] = []
    spans = []
    for ids in sequences:
        spans.append((len(tokens), len(tokens) + len(ids) - 1))
        tokens += ids[:-1]
        targets += ids[1:]
    return Batch(tokens, targets, spans)


class Corpus:
    """The parts of the data and their vocabulary.

    A subclass says what one row of a batch is, and with which id a sample begins and ends.
    """

    batching: ClassVar[str]  # its name in the digest of the data

    def __init__(self, split: Split, tokenizer: CharTokenizer, rng: Random) -> None:
        self.split, self.tokenizer = split, tokenizer

    def batch(self, number: int, batch_size: int, block_size: int) -> Batch:
        """The rows of training batch `number`, counted from 0."""
        raise NotImplementedError

    def held_out(
        self, part: Sequence[str], count: int, batch_size: int, block_size: int
    ) -> Iterator[Batch]:
        """The first `count` rows of a held-out part, in batches."""
        raise NotImplementedError

    @property
    def begin(self) -> int:
        """The id before the first character of a sample."""
        return self.tokenizer.bos

    def tokens(self, num_batches: int, batch_size: int, block_size: int) -> int:
        """The predicted tokens of the first batches together."""
        raise NotImplementedError

    def cut(self, block_size: int) -> int:
        """How many documents are longer than a row, so that their ends are never seen."""
        return 0


class Documents(Corpus):
    """A row is a document between two BOS, cut to `block_size` predicted tokens.

    The training part is shuffled once; after its last document the first follows.
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
    """A row is a window of `block_size` predicted tokens of running text.

    Texts follow one another with a BOS between them. Training windows begin at random places, by a
    generator for each batch; held-out windows follow one another.
    """

    batching = "blocks"

    def __init__(self, split: Split, tokenizer: CharTokenizer, rng: Random) -> None:
        super().__init__(split, tokenizer, rng)
        self._seed = rng.getrandbits(64)
        self._train = self._ids(split.train)

    @property
    def begin(self) -> int:
        """A line feed, after which a text may begin anew; BOS where the text has none."""
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
        """The texts as ids, with a BOS between two."""
        return [i for text in texts for i in self.tokenizer.document(text)[:-1]][1:]
