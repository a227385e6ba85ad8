"""Documents: the text of a file, the validation split, the order of training, batches of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from random import Random

from microgpt.core.check import BadValue, fraction
from microgpt.core.tokenizer import CharTokenizer


def read_documents(text: str) -> list[str]:
    """One document a line, stripped of white space around it; empty lines are none."""
    return [line.strip() for line in text.strip().split("\n") if line.strip()]


def digest(documents: Sequence[str]) -> str:
    """sha256 of the documents, each ended by a line feed, as UTF-8: the identity of the data."""
    return sha256("".join(f"{document}\n" for document in documents).encode()).hexdigest()


def split_documents(
    documents: Sequence[str], *, val_fraction: float, split_seed: int
) -> tuple[list[str], list[str]]:
    """Training documents in file order, and validation documents in the order of their hashes.

    A document is held out if sha256(f"{split_seed}/{document}"), read as a fraction of 1, lies below
    `val_fraction`. So a document that stands twice never lies on both sides, and the split depends
    on nothing else. The order of the hashes makes a first part of the validation documents a fair
    sample of all of them, even when the file is sorted.
    """
    fraction("val_fraction", val_fraction)
    places = _places(tuple(documents), f"{split_seed}/")
    held_out = sorted(pair for pair in zip(places, documents) if pair[0] < val_fraction)
    train = [document for place, document in zip(places, documents) if place >= val_fraction]
    if not train:
        raise BadValue("val_fraction", val_fraction, "it leaves no document to train on")
    return train, [document for _, document in held_out]


@lru_cache(maxsize=1)  # the runs of a process mostly have the same data
def _places(documents: tuple[str, ...], salt: str) -> tuple[float, ...]:
    """Each document's hash, as a fraction of 1."""
    hashes = (sha256(f"{salt}{document}".encode()).hexdigest() for document in documents)
    return tuple(int(digits[:13], 16) / 16**13 for digits in hashes)


@dataclass(frozen=True)
class Corpus:
    """Documents to train on, in the order of training; documents held out; their vocabulary."""

    train: list[str]
    validation: list[str]
    tokenizer: CharTokenizer

    def batch(self, step: int, batch_size: int, block_size: int) -> "Batch":
        """The documents of one step, counted from 0; after the last document the first follows."""
        first, n = step * batch_size, len(self.train)
        documents = [self.train[i % n] for i in range(first, first + batch_size)]
        return make_batch(documents, self.tokenizer, block_size)


def make_corpus(
    documents: Sequence[str], *, val_fraction: float, split_seed: int, rng: Random
) -> Corpus:
    """Split the documents and shuffle those to train on once, by `rng`."""
    train, validation = split_documents(documents, val_fraction=val_fraction, split_seed=split_seed)
    rng.shuffle(train)
    return Corpus(train, validation, CharTokenizer("".join(documents)))


@dataclass(frozen=True)
class Batch:
    """The rows of one pass: T tokens of one or more documents, one after another."""

    tokens: list[int]  # [T]
    targets: list[int]  # [T] the id that follows each token
    spans: list[tuple[int, int]]  # rows start..stop-1 are one document


def make_batch(documents: Sequence[str], tokenizer: CharTokenizer, block_size: int) -> Batch:
    """Each document between two BOS, cut to `block_size` predicted tokens."""
    tokens: list[int] = []
    targets: list[int] = []
    spans = []
    for document in documents:
        ids = tokenizer.document(document)[: block_size + 1]
        spans.append((len(tokens), len(tokens) + len(ids) - 1))
        tokens += ids[:-1]
        targets += ids[1:]
    return Batch(tokens, targets, spans)
