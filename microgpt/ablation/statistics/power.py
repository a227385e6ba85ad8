"""How small a difference some seeds could show.

The standard deviation of a few seeds is a poor guess of the true one: of five, it is below 3/4 of it three
times in ten. So the power promised here is that at an upper confidence limit of the standard deviation:
with a confidence of CONFIDENCE, the true power is at least what is said.
Source: Browne (1995), On the use of a pilot sample for sample size determination, Statistics in Medicine
14(17), 1933-1940; the power of a t-test: Cohen (1988), Statistical Power Analysis, chapter 2.
"""

import math
from functools import cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.ablation.statistics.summary import LEVEL, Summary

Floats: TypeAlias = NDArray[np.float64]

POWER = 0.8  # with which a difference is to be shown
CONFIDENCE = 0.8  # that the true standard deviation is below the limit
NODES = 200  # of the quadrature, on each side of the bend
TAIL = 1e-12  # probability that is left out at each end


def sd_limit(sd: float, n: int) -> float:
    """The upper confidence limit of the true standard deviation, `sd` being that of `n` normal values."""
    from scipy.special import chdtri

    return sd * math.sqrt((n - 1) / float(chdtri(n - 1, CONFIDENCE)))


def power(effect: float, n: int, level: float) -> float:
    """The power of the two-sided paired t-test with `n` seeds.

    effect  the true mean in true standard deviations
    An integral over the standard deviation of the sample; SciPy's noncentral t fails for large effects.
    """
    from scipy.special import chdtri, gammaln, ndtr, stdtrit

    df, shift = n - 1, abs(effect) * math.sqrt(n)
    limit = float(stdtrit(df, 1 - level / 2))
    first, last = np.sqrt(chdtri(df, [1 - TAIL, TAIL]) / df)
    bend = min(max(shift / limit, first), last)  # of sds: below it most means are beyond the limit
    sd, width = _nodes(first, bend, last)
    constant = math.log(2) + df / 2 * math.log(df / 2) - gammaln(df / 2)
    density = np.exp(constant + (df - 1) * np.log(sd) - df * sd**2 / 2)
    beyond = ndtr(shift - limit * sd) + ndtr(-shift - limit * sd)
    return float((width * density * beyond).sum())


@cache
def _legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(NODES)


def _nodes(*ends: float) -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss-Legendre quadrature between each two neighbouring ends."""
    places, weights = _legendre()
    halves = [(b - a) / 2 for a, b in pairwise(ends)]
    nodes = [a + half * (1 + places) for a, half in zip(ends, halves)]
    return np.concatenate(nodes), np.concatenate([half * weights for half in halves])


def detectable(difference: Summary, comparisons: int = 1) -> float | None:
    """The smallest true difference that as many seeds would show, with a power of POWER.

    To show is to exclude 0; to be shown to be more than what matters, it must be larger by as much.
    None with one seed.
    """
    if difference.sd is None:
        return None
    limit = sd_limit(difference.sd, difference.n)
    return _smallest_effect(difference.n, LEVEL / comparisons) * limit


@cache
def _smallest_effect(n: int, level: float) -> float:
    """The mean, in standard deviations, that n pairs show with a power of POWER."""
    from scipy.optimize import brentq

    most = 1.0
    while power(most, n, level) < POWER:
        most *= 2
    return float(brentq(lambda effect: power(effect, n, level) - POWER, 0.0, most))
