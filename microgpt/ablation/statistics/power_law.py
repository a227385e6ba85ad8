"""A power law through the arms' losses: loss = factor * size ** -exponent.

For each seed, a line is fitted to (ln size, ln loss) by least squares. The exponent is the mean of the
slopes, with Student's interval over the seeds. A seed sees the same documents at every size, so its
losses are correlated; the seeds' slopes are independent, but the residuals about a common line are not.
The bend is the coefficient of (ln size)**2, also fitted per seed; above 0 the law flattens as sizes grow.
No floor is fitted: with a handful of sizes within a factor of ten, floor and exponent are not
identifiable (Hoffmann et al. 2022, arXiv 2203.15556, appendix D, needs hundreds of runs). The exponents
between neighbouring sizes are reported instead.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from microgpt.ablation.statistics.summary import LEVEL, Summary, p_value, summary

SIZES = 3  # minimum number of sizes, since two determine a line and no bend


@dataclass(frozen=True)
class Fit:
    """A power law; `local` are the exponents between neighbouring sizes, `seeds` the number of seeds."""

    factor: float
    exponent: Summary
    bend: Summary
    p_bend: float | None
    local: tuple[Summary, ...]
    line: tuple[tuple[float, Summary], ...]  # (size, predicted loss), for the figure

    @property
    def word(self) -> str:
        """`flattens`, `steepens` or `shows no bend`."""
        if self.p_bend is None or self.p_bend >= LEVEL:
            return "shows no bend"
        return "flattens" if self.bend.mean > 0 else "steepens"


def power_law(sizes: Sequence[float], losses: Sequence[Sequence[float]]) -> Fit:
    """Fits `losses` `[seeds][sizes]` at three or more distinct, increasing `sizes`."""
    x = [math.log(size) for size in sizes]
    curves = [[math.log(loss) for loss in seed] for seed in losses]
    centre = math.fsum(x) / len(x)
    slope = _contrast([value - centre for value in x])
    bend = _contrast(_curvature(x))
    level = [math.fsum(curve) / len(curve) for curve in curves]
    slopes = [slope(curve) for curve in curves]
    bends = summary([bend(curve) for curve in curves])
    pairs = range(len(x) - 1)
    local = [
        summary([(curve[i] - curve[i + 1]) / (x[i + 1] - x[i]) for curve in curves]) for i in pairs
    ]
    places = [x[0] + (x[-1] - x[0]) * i / 12 for i in range(13)]
    line = [
        (math.exp(at), summary([a + b * (at - centre) for a, b in zip(level, slopes)]))
        for at in places
    ]
    exponent = summary([-value for value in slopes])
    factor = math.exp(summary(level).mean + exponent.mean * centre)
    shown = tuple((size, _exp(value)) for size, value in line)
    return Fit(factor, exponent, bends, p_value(bends), tuple(local), shown)


def _contrast(weights: Sequence[float]) -> Callable[[Sequence[float]], float]:
    """A function of y: the least-squares coefficient of a regressor that is orthogonal to all others."""
    square = math.fsum(weight * weight for weight in weights)
    return lambda y: math.fsum(w * value for w, value in zip(weights, y)) / square


def _curvature(x: Sequence[float]) -> list[float]:
    """The squares of x, without their linear part."""
    centre = math.fsum(x) / len(x)
    shifted = [value - centre for value in x]
    squares = [value * value for value in shifted]
    mean = math.fsum(squares) / len(x)
    tilt = _contrast(shifted)(squares)
    return [square - mean - tilt * value for square, value in zip(squares, shifted)]


def _exp(of: Summary) -> Summary:
    """Transforms a summary of ln loss to loss, without a standard deviation."""
    low, high = (None if v is None else math.exp(v) for v in (of.low, of.high))
    return Summary(of.n, math.exp(of.mean), None, low, high)
