"""Elementary functions with the same bits on every machine.

IEEE 754 fixes the results of `+ - * /` and of the square root to the last bit. It does not fix
those of `exp`, `log`, `tanh`, `cos` and `sin`: `math` asks the C library, whose last bit depends on its
vendor, on its version, and on whether the processor can multiply and add in one step. One such bit,
fed back through a thousand training steps, gives another model.

So these functions use only what is fixed: the four operations, the square root, `frexp` and `ldexp`,
which only move exponents, and Python's integers. Each formula is evaluated in the order of its
parentheses and rounded after each operation: Python never fuses two operations.

Errors are in ulp, units in the last place of the true result; 0.5 is correctly rounded. They are
measured, and the tests assert them; a digest fixes the bits.
"""

import math
from random import Random

_ROUND = 1.5 * 2**52  # y + _ROUND - _ROUND is y rounded to an integer, for |y| < 2**51

# ------------------------------------------------------------------------------------ exponential

_BITS = 128  # bits of a fixed-point fraction: the integer i stands for i / 2**128
_LN2 = 0xB17217F7D1CF79ABC9E3B39803F2F6AF  # ln 2 as such a fraction

_Node = tuple[float, float, float]  # g, e**g rounded to a double, and the rounding error
_NODES: dict[float, _Node] = {}  # the key is 128 g + _ROUND


def exp(x: float) -> float:
    """e**x = e**g * e**r, g the multiple of 1/128 nearest to x, so that |r| <= 1/256; 0.56 ulp.

    e**r is its Taylor series up to r**5 / 5!. e**g comes from a table, as a double and its rounding
    error, so that only the last addition contributes a half ulp. After P. T. P. Tang,
    Table-driven implementation of the exponential function, ACM TOMS 15 (1989) 144-157; departs
    from it in filling the table on demand. Overflow gives inf, not an exception; underflow is gradual.
    """
    try:
        g, high, low = _NODES[x * 128.0 + _ROUND]
    except KeyError:
        if not -600.0 <= x <= 600.0:
            return _exp_extreme(x)
        g, high, low = _add_node(x * 128.0 + _ROUND)
    r = x - g  # exact
    return high + (low + high * (r + r * r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r / 120)))))


def _add_node(key: float) -> _Node:
    """Adds a table entry. It takes 5 us and 200 bytes; all entries together would be 30 MB."""
    g = (key - _ROUND) / 128.0
    fraction, doublings = _exp_integer(g)
    high = float(fraction)
    low = float(fraction - int(high))
    unit = math.ldexp(1.0, doublings - _BITS)
    return _NODES.setdefault(key, (g, high * unit, low * unit))


def _exp_extreme(x: float) -> float:
    """e**x where a part of a node could overflow or underflow, as a quotient of integers; 0.5 ulp."""
    if not -746.0 < x < 710.0:
        return 0.0 if x < 0.0 else x + math.inf  # nan + inf is nan
    fraction, doublings = _exp_integer(x)
    try:
        return (fraction << max(doublings, 0)) / (1 << (_BITS + max(-doublings, 0)))
    except OverflowError:
        return math.inf


def _exp_integer(x: float) -> tuple[int, int]:
    """f and n with e**x = 2**n f / 2**128 and 1 <= f / 2**128 < 2, by the Taylor series in integers."""
    numerator, denominator = x.as_integer_ratio()
    doublings, rest = divmod((numerator << _BITS) // denominator, _LN2)
    total, term, n = 0, 1 << _BITS, 0
    while term:
        total, n = total + term, n + 1
        term = (term * rest >> _BITS) // n
    return total, doublings


# -------------------------------------------------------------------------------------- logarithm

_LN2_HIGH = 0.6931471803691238  # 32 bits, so that the product with an exponent is exact
_LN2_LOW = 1.9082149292705877e-10  # ln 2 - _LN2_HIGH


def log(x: float) -> float:
    """ln x = k ln 2 + ln(1 + f), x = 2**k (1 + f), 1 + f between sqrt(1/2) and sqrt 2; 0.9 ulp.

    With s = f / (2 + f), ln(1 + f) = 2 artanh s = 2 s + 2 s**3 / 3 + ... + 2 s**21 / 21, arranged
    as f - f**2/2 + s (f**2/2 + 2 s**2 / 3 + ...), which is accurate where x is near 1. From
    `e_log.c` of Sun's fdlibm (1993). log(0) is -inf; the log of a negative number is nan.
    """
    if not 0.0 < x < math.inf:
        return -math.inf if x == 0.0 else x if x > 0.0 else math.nan
    m, k = math.frexp(x)
    if m < 0.7071067811865476:
        m, k = 2.0 * m, k - 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    tail = 2 / 13 + z * (2 / 15 + z * (2 / 17 + z * (2 / 19 + z * (2 / 21))))
    tail = z * (2 / 3 + z * (2 / 5 + z * (2 / 7 + z * (2 / 9 + z * (2 / 11 + z * tail)))))
    half = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + tail) + k * _LN2_LOW)) - f)


# ----------------------------------------------------------------------------- hyperbolic tangent


def tanh(x: float) -> float:
    """tanh x = 1 - 2 / (e**2x + 1); 1.1 ulp.

    Below 3/4, where this cancels, tanh x = x / (1 + w), w = x**2 / (3 + x**2 / (5 + x**2 / (7 + ...)))
    (J. H. Lambert 1768); 0.9 ulp. It is evaluated as x - x w / (1 + w), so that only the smaller
    term is rounded.
    """
    a = abs(x)
    if a < 0.75:
        z = a * a
        w = 11.0 + z / (13.0 + z / (15.0 + z / 17.0))
        w = z / (3.0 + z / (5.0 + z / (7.0 + z / (9.0 + z / w))))
        return math.copysign(a - a * (w / (1.0 + w)), x)
    return math.copysign(1.0 - 2.0 / (exp(2.0 * a) + 1.0), x)


# -------------------------------------------------------------------------------- cosine and sine

_LIMIT = 2.0**18
_QUARTER = 1.5707963267923333  # the first 35 bits of pi/2: a product with 18 bits is exact
_QUARTER_2 = 2.5633441514780767e-12  # the next 34 bits
_QUARTER_3 = 1.1644211747377496e-22  # the next 53 bits


def cos(x: float) -> float:
    """The cosine for |x| <= 2**18, also near its zeros, and nan outside; 0.8 ulp.

    x = k pi/2 + r + t with |r| <= pi/4; t is the rounding error of r. Pi in three parts is from
    W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980), the use of t from
    fdlibm. `near` and `step` are exact.
    """
    if not -_LIMIT <= x <= _LIMIT:
        return math.nan
    quarters, r, t = _reduced(x)
    value = _sin_small(r, t) if quarters & 1 else _cos_small(r, t)
    return -value if (quarters + 1) & 2 else value


def sin(x: float) -> float:
    """The sine for |x| <= 2**18, and nan outside, by the reduction of `cos`; 0.8 ulp."""
    if not -_LIMIT <= x <= _LIMIT:
        return math.nan
    quarters, r, t = _reduced(x)
    value = _cos_small(r, t) if quarters & 1 else _sin_small(r, t)
    return -value if quarters & 2 else value


def _reduced(x: float) -> tuple[int, float, float]:
    """k, r and t with x = k pi/2 + r + t."""
    k = (x * 0.6366197723675814 + _ROUND) - _ROUND  # x / (pi/2), rounded
    near = x - k * _QUARTER
    step = k * _QUARTER_2
    r = near - step
    return int(k), r, ((near - r) - step) - k * _QUARTER_3


def _cos_small(r: float, t: float) -> float:
    """cos(r + t) = 1 - r**2/2 + (r**4/4! - ... + r**16/16! - r t)"""
    z = r * r
    tail = 1 / 3628800 - z * (1 / 479001600 - z * (1 / 87178291200 - z / 20922789888000))
    tail = z * z * (1 / 24 - z * (1 / 720 - z * (1 / 40320 - z * tail)))
    half = 0.5 * z
    main = 1.0 - half
    # (1 - main) - half is the rounding error of `main`.
    return main + (((1.0 - main) - half) + (tail - r * t))


def _sin_small(r: float, t: float) -> float:
    """sin(r + t) = r - (r**3/3! - ... - r**17/17! - t (1 - r**2/2))"""
    z = r * r
    tail = 1 / 39916800 - z * (1 / 6227020800 - z * (1 / 1307674368000 - z / 355687428096000))
    tail = 1 / 6 - z * (1 / 120 - z * (1 / 5040 - z * (1 / 362880 - z * tail)))
    return r - (r * z * tail - t * (1.0 - 0.5 * z))


# ------------------------------------------------------------------------------------------ powers


def power(base: float, exponent: int) -> float:
    """base**exponent for an integer exponent >= 0, by repeated squaring."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def pow(base: float, exponent: float) -> float:
    """base**exponent: by products and a square root if 2 * exponent is an integer, else by exp and log.

    2.5 ulp for the former up to exponent 3, 1 + 2 |exponent ln base| ulp for the latter. 0 to a
    negative power is inf, with the sign of that 0 if the power is odd; a negative base to a
    fractional power is nan.
    """
    if exponent < 0:
        below = pow(base, -exponent)
        odd = exponent % 2 == 1
        return 1 / below if below else math.copysign(math.inf, base if odd else 1)
    if 2 * exponent % 1:
        return exp(exponent * log(base))
    root = 1.0
    if exponent % 1:
        root = math.sqrt(base) if base >= 0 else math.nan
    return power(base, int(exponent)) * root


# --------------------------------------------------------------------------------- normal numbers


def normal(rng: Random) -> float:
    """A number from N(0, 1), by Marsaglia's polar method.

    If (u, v) is uniform in the unit disc and s = u**2 + v**2, then u sqrt(-2 ln(s) / s) is normal.
    The second number, from v, is discarded, so that all state is in `rng`.
    G. Marsaglia and T. A. Bray, A convenient method for generating normal variables, SIAM Review 6
    (1964) 260-264.
    """
    while True:
        u, v = 2.0 * rng.random() - 1.0, 2.0 * rng.random() - 1.0
        s = u * u + v * v
        if 0.0 < s < 1.0:
            return u * math.sqrt(-2.0 * log(s) / s)
