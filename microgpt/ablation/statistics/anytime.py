"""Intervals that hold at any time: one may look after every seed, and stop whenever one likes.

The interval after n differences x is the set of all means m at which this statistic of the t-test

    E = sqrt(c / (n + c)) * (V / (V - S**2 / (n + c))) ** (n / 2),   S = sum(x - m), V = sum((x - m)**2)

is below 1 / LEVEL: a ratio of the likelihoods of x / |x_1|, on average over effects (mean / sd) from
N(0, 1 / c) to that of no effect. For normal differences of any variance, all intervals hold the true mean
at once with 95 %, by Ville's inequality. For the first few differences there is none: it would be infinite.
Source: Wang & Ramdas (2023), Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance, arXiv 2310.03722, the Gaussian mixture; Lai (1976), Annals of Statistics 4(2), 265-280.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from microgpt.ablation.statistics.summary import LEVEL, Summary, summary
from microgpt.ablation.statistics.verdict import Verdict, verdict

EFFECT = 1.0  # c: the narrowest after some ten to a hundred seeds; finite from 5 on


def anytime(values: Sequence[float], comparisons: int = 1) -> Summary:
    """The summary of at least one value, with the interval that holds at any time.

    comparisons  the number of summaries whose intervals hold together with 95 %
    """
    found = summary(values)
    if found.sd is None:
        return found
    half = _half(found.n, found.sd * math.sqrt((found.n - 1) / found.n), LEVEL / comparisons)
    if math.isinf(half):
        return Summary(found.n, found.mean, found.sd, None, None)
    return Summary(found.n, found.mean, found.sd, found.mean - half, found.mean + half)


def _half(n: int, sd: float, level: float) -> float:
    """Half the width of the interval, with the sd of the n differences themselves (divisor n)."""
    limit = ((n + EFFECT) / (EFFECT * level**2)) ** (1 / n)
    rest = 1 - limit * EFFECT / (n + EFFECT)
    return sd * math.sqrt((limit - 1) / rest) if rest > 0 else math.inf


def sequential(
    more: Callable[[int], Sequence[float]], matters: float, most: int
) -> Iterator[tuple[Summary, Verdict]]:
    """Looks at more and more differences, until the word is an answer or there are `most`.

    more  gives the first n differences, for each n of `counts(most)`
    Yields the interval and its word at each look; the last is the result.
    """
    for n in counts(most):
        found = anytime(more(n))
        word = verdict(found.low, found.high, matters)
        yield found, word
        if word.is_answer():
            return


def counts(most: int) -> Iterator[int]:
    """How many seeds there are at each look: 5, 9, 13, 17, 21, 26, 32, 40, 50, ..., `most`."""
    n = 5
    while n < most:
        yield n
        n += max(4, n // 4)
    yield most
