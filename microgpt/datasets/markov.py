"""Documents of a fixed random process, whose entropy is known."""

from functools import lru_cache
from random import Random
from typing import NamedTuple

from microgpt.core import exact
from microgpt.core.check import integer, number
from microgpt.core.source import Source

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Markov(Source):
    """Words of a Markov chain over `letters` letters, given the last `order` of them.

    After each context the next letter, or the end of the word, has the probability softmax(sharpness *
    z), z normal. A word has from 1 to `max_length` letters, after which it ends with certainty. All is
    drawn from `process_seed`. `val/excess` is the loss above that of the process itself on the same
    words, if model.block_size > max_length.
    """

    def __init__(
        self,
        *,
        count: int,
        letters: int,
        order: int,
        sharpness: float,
        max_length: int,
        process_seed: int,
        val_fraction: float,
        test_fraction: float,
        split: str,
        split_seed: int,
    ) -> None:
        super().__init__(
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            split=split,
            split_seed=split_seed,
        )
        self.count = integer("count", count, 1)
        self.process = Process(
            integer("letters", letters, 2, len(LETTERS)),
            integer("order", order, 1, 3),
            number("sharpness", sharpness, "> 0 and at most 20", lambda v: 0 < v <= 20),
            integer("max_length", max_length, 1),
            integer("process_seed", process_seed, 0),
        )

    def documents(self) -> list[str]:
        """`count` words."""
        return list(_words(self.process, self.count))

    def facts(self) -> dict[str, float]:
        """`entropy_rate`, the expected nats per predicted token, ends included."""
        return {"entropy_rate": _entropy_rate(self.process)}

    def nats(self, document: str) -> float:
        total = 0.0
        for i, letter in enumerate([*document, ""]):
            total -= exact.log(dict(_next(self.process, document[:i]))[letter])
        return total


class Process(NamedTuple):
    """The parameters of a chain."""

    letters: int
    order: int
    sharpness: float
    max_length: int
    seed: int


Next = tuple[tuple[str, float], ...]  # (letter, probability); the letter "" is the end


def _next(process: Process, word: str) -> Next:
    """The distribution of what follows the beginning of a word."""
    if len(word) >= process.max_length:
        return (("", 1.0),)
    return _after(process, word[-process.order :])


@lru_cache(1 << 15)
def _after(process: Process, context: str) -> Next:
    """The distribution after the last letters; an empty word does not end."""
    rng = Random(f"{process.seed}/{context}")
    symbols = [*LETTERS[: process.letters]] + [""] * bool(context)
    shares = [exact.exp(process.sharpness * exact.normal(rng)) for _ in symbols]
    total = 0.0
    for share in shares:
        total += share
    return tuple((symbol, share / total) for symbol, share in zip(symbols, shares))


@lru_cache(4)
def _words(process: Process, count: int) -> tuple[str, ...]:
    rng = Random(f"{process.seed}/words")
    return tuple(_word(process, rng) for _ in range(count))


def _word(process: Process, rng: Random) -> str:
    word = ""
    while letter := _drawn(_next(process, word), rng.random()):
        word += letter
    return word


def _drawn(following: Next, share: float) -> str:
    """The letter in whose part of [0, 1) `share` lies."""
    for letter, probability in following:
        share -= probability
        if share < 0:
            return letter
    return following[-1][0]  # rounding left a little


@lru_cache(4)
def _entropy_rate(process: Process) -> float:
    """Expected nats of a word over expected tokens of a word, by the distribution of contexts."""
    nats = tokens = 0.0
    reached = {"": 1.0}  # context -> probability that a word gets there with so many letters
    for length in range(process.max_length + 1):
        new: dict[str, float] = {}
        for context, share in reached.items():
            tokens += share
            for letter, p in _after(process, context) if length < process.max_length else ():
                nats -= share * p * exact.log(p)
                if letter:
                    after = (context + letter)[-process.order :]
                    new[after] = new.get(after, 0.0) + share * p
        reached = new
    return nats / tokens
