"""exp, log, tanh, cos and normal numbers with the same bits on every IEEE-754 machine.

The last bits of `math.exp` and its like are the machine's C library's: they change with its version and
even with the instructions that the processor offers. `+ - * /`, `math.sqrt`, `math.frexp` and
`math.ldexp` are exact or correctly rounded everywhere, and these functions use nothing else. The
errors stated are the largest that the tests have seen; an ulp is a unit in the last place.
"""

import math
from random import Random

# ln 2 in two parts: the first has 32 bits, so that its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
# pi / 2 in three parts, the first two of 33 bits
QUARTER = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
ROUND = 1.5 * 2.0**52  # adding and taking it off rounds to an integer
PARTS = 128  # steps that exp cuts an octave into


def _octave() -> tuple[list[float], list[float]]:
    """2^(j / 128) for j = 0..127, as a double and what it leaves out.

    Integers of 256 bits: 7 square roots of 2^j are its 128th root, on every machine.
    """
    high, low = [], []
    for j in range(PARTS):
        root = 1 << (256 + j)
        for _ in range(7):
            root = math.isqrt(root << 256)
        high.append(root / (1 << 256))  # a quotient of integers is correctly rounded
        numerator, denominator = high[-1].as_integer_ratio()
        low.append((root - (numerator << 256) // denominator) / (1 << 256))
    return high, low


_HIGH, _LOW = _octave()
_STEPS, _STEP_HIGH, _STEP_LOW = PARTS / 0.6931471805599453, LN2_HIGH / PARTS, LN2_LOW / PARTS


def exp(x: float) -> float:
    """e^x, error < 0.51 ulp; inf above 709.78, 0 below -745.13.

    x = k ln2 / 128 + r with |r| < 0.0028, and so e^x = 2^(k // 128) 2^(k % 128 / 128) e^r: the middle
    factor from a table, the last from its series (Tang 1989, ACM TOMS 15(2)).
    """
    if not -745.13 < x < 709.782712893384:
        return x if x != x else math.inf if x > 0 else 0.0
    steps = x * _STEPS + ROUND - ROUND
    k = int(steps)
    r = x - steps * _STEP_HIGH - steps * _STEP_LOW
    high = _HIGH[k & 127]
    series = r + r * r * (0.5 + r * (_SIXTH + r * (_24TH + r * _120TH)))
    return math.ldexp(high + (_LOW[k & 127] + high * series), k >> 7)


def log(x: float) -> float:
    """Natural logarithm, error < 0.8 ulp; -inf at 0, nan below.

    x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). With s = f / (2 + f),
    ln(1 + f) = 2 artanh(s) = f - f^2 / 2 + s (f^2 / 2 + R(s^2)); R's coefficients are those of
    fdlibm's e_log.c (Sun Microsystems 1993).
    """
    if not 0.0 < x < math.inf:
        return -math.inf if x == 0 else x if x > 0 or x != x else math.nan
    m, k = math.frexp(x)
    if m < 0.7071067811865476:
        m, k = m * 2, k - 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    rest = 0.0
    for coefficient in _LOG:
        rest = (rest + coefficient) * z
    half = 0.5 * f * f
    return k * LN2_HIGH - ((half - (s * (half + rest) + k * LN2_LOW)) - f)


def tanh(x: float) -> float:
    """Hyperbolic tangent, error < 1.6 ulp.

    Near 0 by Lambert's continued fraction x / (1 + x^2 / (3 + x^2 / (5 + ...))), else by
    1 - 2 / (e^2x + 1).
    """
    size = abs(x)
    if size < 0.5:
        z, tail = x * x, 15.0
        for odd in (13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
            tail = odd + z / tail
        return x / tail
    if size > 22.0:
        return 1.0 if x > 0 else -1.0
    result = 1.0 - 2.0 / (exp(2 * size) + 1.0)
    return -result if x < 0 else result


def cos(x: float) -> float:
    """Cosine for |x| <= 100,000, error < 1.6e-16.

    What multiples of pi / 2 leave over, |r| <= pi / 4, goes into the series of cos or sin.
    """
    turns = x / QUARTER[0] + ROUND - ROUND
    r = x - turns * QUARTER[0] - turns * QUARTER[1] - turns * QUARTER[2]
    quadrant = int(turns) & 3
    z, series = r * r, 0.0
    for i in range(17 if quadrant & 1 else 16, 1, -2):  # 1 / i! of sin or cos, alternating
        series = (_FACTORIAL[i] - series) * z
    result = r - r * series if quadrant & 1 else 1.0 - series
    return -result if quadrant in (1, 2) else result


def power(base: float, exponent: int) -> float:
    """base^exponent for an exponent >= 0, by products alone."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def normal(rng: Random) -> float:
    """A standard normal number, by the polar method (Marsaglia & Bray 1964, SIAM Review 6(3)).

    The method makes two; the second is thrown away, so that a call depends on nothing but `rng`.
    """
    while True:
        u, v = 2.0 * rng.random() - 1.0, 2.0 * rng.random() - 1.0
        square = u * u + v * v
        if 0.0 < square < 1.0:
            return u * math.sqrt(-2.0 * log(square) / square)


_FACTORIAL = [1 / math.factorial(i) for i in range(18)]
_SIXTH, _24TH, _120TH = _FACTORIAL[3:6]
_LOG = (
    0.14798198605116586,
    0.15313837699209373,
    0.1818357216161805,
    0.22222198432149784,
    0.2857142874366239,
    0.3999999999940942,
    0.6666666666666735,
)
