"""Means over seeds with Student's intervals.

Source: Student (1908), Biometrika 6(1). The intervals of several comparisons hold together by the
inequality of Bonferroni: each has the level LEVEL / comparisons. It holds however the comparisons are
correlated and however few the seeds are; a multivariate t distribution with one common variance is too
narrow for five seeds (see the method's page).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

LEVEL = 0.05  # significance level of all tests; intervals have 1 - LEVEL


@dataclass(frozen=True)
class Summary:
    """Mean over `n` seeds, standard deviation (n - 1), 95 % interval of the mean.

    With one value, `sd`, `low` and `high` are None; where there is no interval yet, `low` and `high` are.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


class Interval(Protocol):
    """A way to the interval of a mean; those of all `comparisons` hold together."""

    def __call__(self, values: Sequence[float], comparisons: int = 1) -> Summary: ...


def summary(values: Sequence[float], comparisons: int = 1) -> Summary:
    """The summary of at least one value. `math.fsum` makes it independent of their order.

    comparisons  the number of summaries whose intervals hold together with 95 %
    """
    from scipy.special import stdtrit

    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return Summary(n, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 1 - LEVEL / comparisons / 2)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def p_value(of: Summary, comparisons: int = 1) -> float | None:
    """Two-sided p-value of the hypothesis that the mean is 0; None with one value.

    For paired differences this is the paired t-test. It is multiplied by `comparisons`, so that it is
    below LEVEL exactly if the interval for as many comparisons excludes 0.
    """
    from scipy.special import stdtr

    if of.sd is None:
        return None
    if of.sd == 0:
        return 1.0 if of.mean == 0 else 0.0
    p = 2 * float(stdtr(of.n - 1, -abs(of.mean) * math.sqrt(of.n) / of.sd))
    return min(1.0, p * comparisons)
