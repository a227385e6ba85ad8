"""Paired statistics over seeds. All tests are t-tests, all intervals are Student's at 95 %.

Sources: Student (1908), Biometrika 6(1); Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70;
the power of a t-test by the noncentral t distribution: Cohen (1988), chapter 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.05  # significance level of all tests; intervals have 1 - LEVEL
POWER = 0.8  # power at which the smallest detectable effect is reported


@dataclass(frozen=True)
class Summary:
    """Mean over `n` seeds, standard deviation (n - 1), 95 % interval of the mean.

    With one value, `sd`, `low` and `high` are None.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


def summary(values: Sequence[float]) -> Summary:
    """The summary of at least one value. `math.fsum` makes it independent of their order."""
    from scipy.special import stdtrit

    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Summary(n, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def p_value(of: Summary) -> float | None:
    """Two-sided p-value of the hypothesis that the mean is 0; None with one value.

    For paired differences this is the paired t-test.
    """
    from scipy.special import stdtr

    if of.sd is None:
        return None
    if of.sd == 0:
        return 1.0 if of.mean == 0 else 0.0
    return 2 * float(stdtr(of.n - 1, -abs(of.mean) * math.sqrt(of.n) / of.sd))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given, which control the family-wise error rate."""
    order = sorted((p, i) for i, p in enumerate(ps))
    corrected = [1.0] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[i] = largest
    return corrected


def word(difference: Summary, corrected: float | None) -> str:
    """`better`, `worse` or `not distinguishable`, for a difference in loss."""
    if corrected is None or corrected >= LEVEL:
        return "not distinguishable"
    return "worse" if difference.mean > 0 else "better"


def power(effect: float, n: int, level: float) -> float:
    """The power of the two-sided paired t-test, for a true mean of `effect` standard deviations."""
    from scipy.special import nctdtr, stdtrit

    limit, shift = float(stdtrit(n - 1, 1 - level / 2)), abs(effect) * math.sqrt(n)
    found = 1 - float(nctdtr(n - 1, shift, limit)) + float(nctdtr(n - 1, shift, -limit))
    return found if math.isfinite(found) else _power(shift, limit, n - 1)


def _power(shift: float, limit: float, df: int) -> float:
    """The same for large shifts, where SciPy's noncentral t fails: an integral over the sample's sd."""
    from scipy.integrate import quad
    from scipy.special import ndtr
    from scipy.stats import chi

    def beyond(sd: float) -> float:
        tails = ndtr(shift - limit * sd) + ndtr(-shift - limit * sd)
        return float(tails * chi.pdf(sd * math.sqrt(df), df) * math.sqrt(df))

    most = float(chi.ppf(1 - 1e-12, df)) / math.sqrt(df)
    return float(quad(beyond, 0, most, points=[min(shift / limit, most)], limit=200)[0])


def detectable(difference: Summary, comparisons: int) -> float | None:
    """The smallest true difference that would be detected with these seeds at a power of 0.8.

    The level is that of Holm's first, strictest step, 0.05 / comparisons.
    """
    if difference.sd is None:
        return None
    return _smallest_effect(difference.n, LEVEL / comparisons) * difference.sd


@cache
def _smallest_effect(n: int, level: float) -> float:
    """The mean, in standard deviations, that n pairs detect at a power of 0.8. By bisection."""
    low, high = 0.0, 1.0
    while power(high, n, level) < POWER:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, n, level) >= POWER else (middle, high)
    return high
