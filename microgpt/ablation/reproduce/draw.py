"""A random sample that anyone can draw again."""

import secrets
from collections.abc import Sequence
from random import Random
from typing import TypeVar

SEEDS = 1_000_000  # of draws

T = TypeVar("T")


def draw(items: Sequence[T], count: int, seed: int | None) -> tuple[list[T], str]:
    """Some items in their order, at most all, drawn by `seed`; others each time if it is None.

    Also returns words that say how to draw the same; empty if all are drawn.
    """
    count = min(count, len(items))
    seed = secrets.randbelow(SEEDS) if seed is None else seed
    places = sorted(Random(seed).sample(range(len(items)), count))
    which = "" if count == len(items) else f" (--seed {seed} draws the same)"
    return [items[i] for i in places], which
