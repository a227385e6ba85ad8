"""Numbers to try functions of one number on."""

import math
from random import Random

# Exponents of powers.
HALVES = (-2.5, -2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2, 2.5, 3)
OTHERS = (-1.7, -0.1, 0.25, 0.3, 3.3)


def uniform(low: float, high: float, count: int, seed: int = 1) -> list[float]:
    rng = Random(seed)
    return [low + (high - low) * rng.random() for _ in range(count)]


def scaled(low_exponent: int, high_exponent: int, count: int, seed: int = 2) -> list[float]:
    """Numbers of all sizes: their exponents are uniform."""
    rng = Random(seed)
    span = high_exponent - low_exponent
    return [
        math.ldexp(1 + rng.random(), low_exponent + int(rng.random() * span)) for _ in range(count)
    ]


def multiples(step: float, low: int, high: int, count: int, seed: int = 3) -> list[float]:
    rng = Random(seed)
    return [step * (low + int(rng.random() * (high - low))) for _ in range(count)]


def near_one(count: int) -> list[float]:
    return [1 + side * x for x in scaled(-52, -2, count // 2) for side in (1, -0.5)]
