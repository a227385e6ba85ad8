"""Paired statistics over seeds. Every test is a t-test, every interval of 95 % one of Student's t.

Sources: Student (1908), Biometrika 6(1); Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70;
the power of a t-test by the noncentral t distribution: Cohen (1988), chapter 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.05  # of every test; intervals have 1 - LEVEL
POWER = 0.8  # with which the smallest effect that could have been shown would have been


@dataclass(frozen=True)
class Summary:
    """Mean over `n` seeds, standard deviation (n - 1), 95 % interval of the mean.

    One value has no spread: `sd`, `low` and `high` are None.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def summary(values: Sequence[float]) -> Summary:
    """Of at least one value. `math.fsum` rounds once, so that the order does not matter."""
    from scipy.special import stdtrit

    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Summary(n, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def p_value(of: Summary) -> float | None:
    """Two-sided p of a mean of 0; of paired differences, the paired t-test. None without spread."""
    from scipy.special import stdtr

    if of.sd is None:
        return None
    if of.sd == 0:
        return 1.0 if of.mean == 0 else 0.0
    return 2 * float(stdtr(of.n - 1, -abs(of.mean) * math.sqrt(of.n) / of.sd))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's corrected p values, in the order given: the family-wise error stays below the level."""
    order = sorted((p, i) for i, p in enumerate(ps))
    corrected = [1.0] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[i] = largest
    return corrected


def word(difference: Summary, corrected: float | None) -> str:
    """`better`, `worse` or `not distinguishable`, of a difference in loss."""
    if corrected is None or corrected >= LEVEL:
        return "not distinguishable"
    return "worse" if difference.mean > 0 else "better"


def power(effect: float, n: int, level: float) -> float:
    """Of the two-sided paired t-test, for a true mean of `effect` standard deviations."""
    from scipy.special import nctdtr, stdtrit

    limit, shift = float(stdtrit(n - 1, 1 - level / 2)), abs(effect) * math.sqrt(n)
    found = 1 - float(nctdtr(n - 1, shift, limit)) + float(nctdtr(n - 1, shift, -limit))
    return found if math.isfinite(found) else _power(shift, limit, n - 1)


def _power(shift: float, limit: float, df: int) -> float:
    """The same for large shifts, at which SciPy's noncentral t gives up: over the sd of a sample."""
    from scipy.integrate import quad
    from scipy.special import ndtr
    from scipy.stats import chi

    def beyond(sd: float) -> float:
        tails = ndtr(shift - limit * sd) + ndtr(-shift - limit * sd)
        return float(tails * chi.pdf(sd * math.sqrt(df), df) * math.sqrt(df))

    most = float(chi.ppf(1 - 1e-12, df)) / math.sqrt(df)
    return float(quad(beyond, 0, most, points=[min(shift / limit, most)], limit=200)[0])


def detectable(difference: Summary, comparisons: int) -> float | None:
    """The smallest true difference that these seeds would show with a power of 0.8.

    At the level of Holm's first, strictest step: 0.05 / comparisons. Found by halving.
    """
    if difference.sd is None:
        return None
    low, high = 0.0, 1.0
    while power(high, difference.n, LEVEL / comparisons) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        enough = power(middle, difference.n, LEVEL / comparisons) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high * difference.sd
