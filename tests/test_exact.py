"""`microgpt.core.exact`: errors against 60-digit decimals, and special values."""

import math
from collections.abc import Callable, Iterable
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction

import pytest

from microgpt.core import exact
from tests.arguments import HALVES, OTHERS, multiples, near_one, scaled, uniform

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
INF, NAN = math.inf, math.nan


# ------------------------------------------------------------------------------------- the oracle


@pytest.fixture(autouse=True)
def sixty_digits() -> Iterable[None]:
    with localcontext():
        getcontext().prec = 60
        yield


def true_exp(x: float) -> Decimal:
    return Decimal(x).exp()


def true_log(x: float) -> Decimal:
    return Decimal(x).ln()


def true_tanh(x: float) -> Decimal:
    square = (2 * Decimal(x)).exp()
    return (square - 1) / (square + 1)


def true_cos(x: float, turn: Decimal = Decimal(0)) -> Decimal:
    r = (Decimal(x) + turn).remainder_near(2 * PI)
    total, term, n = Decimal(0), Decimal(1), 0
    while abs(term) > Decimal("1e-60"):
        total, n = total + term, n + 2
        term *= -r * r / (n * (n - 1))
    return total


def true_sin(x: float) -> Decimal:
    return true_cos(x, -PI / 2)


def true_pow(x: float, exponent: float) -> Decimal:
    return Decimal(x) ** Decimal(exponent)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "cos", "sin"])
def test_the_oracle_agrees_with_mpmath(name: str) -> None:
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        for x in uniform(0.001, 40, 20):
            mine, other = globals()[f"true_{name}"](x), getattr(mpmath, name)(x)
            assert abs(mine / Decimal(mpmath.nstr(other, 60)) - 1) < Decimal("1e-40")


# ---------------------------------------------------------------------------------------- errors


ERRORS = {
    "exp near 0": (exact.exp, true_exp, 0.56, [*uniform(-1, 1, 600), *scaled(-60, -2, 200)]),
    "exp of scores": (exact.exp, true_exp, 0.56, uniform(-30, 30, 800)),
    "exp anywhere": (exact.exp, true_exp, 0.56, uniform(-600, 600, 400)),
    "exp between nodes": (exact.exp, true_exp, 0.56, multiples(1 / 256, -9999, 9999, 400)),
    "exp near overflow": (exact.exp, true_exp, 0.501, uniform(600, 709.78, 100)),
    "exp near underflow": (exact.exp, true_exp, 0.501, uniform(-745.1, -600, 100)),
    "log of a fraction": (exact.log, true_log, 0.9, uniform(0, 1, 400)),
    "log near 1": (exact.log, true_log, 0.9, near_one(400)),
    "log at the fold": (exact.log, true_log, 0.9, uniform(0.69, 0.72, 400)),
    "log anywhere": (exact.log, true_log, 0.9, scaled(-1074, 1023, 400)),
    "tanh near 0": (exact.tanh, true_tanh, 0.9, uniform(-0.75, 0.75, 600)),
    "tanh next to 0": (exact.tanh, true_tanh, 0.9, scaled(-40, -2, 100)),
    "tanh from 3/4": (exact.tanh, true_tanh, 1.1, [*uniform(0.75, 1, 400), *uniform(-20, 20, 300)]),
    "cos of a schedule": (exact.cos, true_cos, 0.8, uniform(0, math.pi, 300)),
    "cos of positions": (exact.cos, true_cos, 0.8, uniform(-1e5, 1e5, 300)),
    "cos near its zeros": (exact.cos, true_cos, 0.8, multiples(math.pi / 2, -166000, 166000, 200)),
    "cos at its limit": (exact.cos, true_cos, 0.8, [-(2.0**18), 2.0**18, 2.0**18 - 2**-35]),
    "sin near 0": (exact.sin, true_sin, 0.8, scaled(-40, -1, 200)),
    "sin of an angle": (exact.sin, true_sin, 0.8, uniform(-math.pi, math.pi, 300)),
    "sin of positions": (exact.sin, true_sin, 0.8, uniform(-1e5, 1e5, 300)),
    "sin near its zeros": (exact.sin, true_sin, 0.8, multiples(math.pi, -83000, 83000, 200)),
    "sin at its limit": (exact.sin, true_sin, 0.8, [-(2.0**18), 2.0**18, 2.0**18 - 2**-35]),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_in_ulp(case: str) -> None:
    function, oracle, bound, arguments = ERRORS[case]

    def error(x: float) -> float:
        true = oracle(x)
        return float(abs(Decimal(function(x)) - true) / Decimal(math.ulp(float(true))))

    worst = max(arguments, key=error)
    assert error(worst) < bound, worst.hex()


@pytest.mark.parametrize("exponent", [*HALVES, *OTHERS])
def test_error_of_a_power_in_ulp(exponent: float) -> None:
    """Of a whole or half exponent a few roundings; of others more, as the exponential's argument grows."""
    for x in scaled(-50, 50, 300):
        true = true_pow(x, exponent)
        error = float(abs(Decimal(exact.pow(x, exponent)) - true) / Decimal(math.ulp(float(true))))
        bound = 2.5 if exponent in HALVES else 1 + 2 * abs(exponent * math.log(x))
        assert error < bound, x.hex()


def test_the_constants_are_what_their_comments_say() -> None:
    ln2, half_pi = Fraction(Decimal(2).ln()), Fraction(PI / 2)
    assert abs(Fraction(exact._LN2, 2**128) - ln2) < Fraction(1, 2**128)
    assert float(ln2 - Fraction(exact._LN2_HIGH)) == exact._LN2_LOW
    rest = half_pi - Fraction(exact._QUARTER) - Fraction(exact._QUARTER_2)
    assert float(rest) == exact._QUARTER_3
    for part, bits in ((exact._LN2_HIGH, 32), (exact._QUARTER, 35), (exact._QUARTER_2, 34)):
        assert part.as_integer_ratio()[0].bit_length() <= bits


# -------------------------------------------------------------------------------- special values


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (exact.exp, 0.0, 1.0),
        (exact.exp, -0.0, 1.0),
        (exact.exp, INF, INF),
        (exact.exp, -INF, 0.0),
        (exact.exp, NAN, NAN),
        (exact.exp, 709.782712893384, 1.7976931348622732e308),  # the last that a double can hold
        (exact.exp, 709.7827128933841, INF),
        (exact.exp, 1e300, INF),
        (exact.exp, -745.1332191019411, 5e-324),  # the last above half the least double
        (exact.exp, -745.1332191019412, 0.0),
        (exact.exp, -1e9, 0.0),
        (exact.exp, -1e300, 0.0),
        (exact.log, 1.0, 0.0),
        (exact.log, 2.0, 0.6931471805599453),
        (exact.log, 5e-324, -744.4400719213812),
        (exact.log, 0.0, -INF),
        (exact.log, -0.0, -INF),
        (exact.log, -1.0, NAN),
        (exact.log, -INF, NAN),
        (exact.log, INF, INF),
        (exact.log, NAN, NAN),
        (exact.tanh, 0.0, 0.0),
        (exact.tanh, -0.0, -0.0),
        (exact.tanh, 5e-324, 5e-324),
        (exact.tanh, -1e-300, -1e-300),
        (exact.tanh, 20.0, 1.0),
        (exact.tanh, -1e308, -1.0),
        (exact.tanh, INF, 1.0),
        (exact.tanh, -INF, -1.0),
        (exact.tanh, NAN, NAN),
        (exact.cos, 0.0, 1.0),
        (exact.cos, math.pi, -1.0),
        (exact.cos, 2.0**18 + 1, NAN),
        (exact.cos, INF, NAN),
        (exact.cos, NAN, NAN),
        (exact.sin, 0.0, 0.0),
        (exact.sin, 5e-324, 5e-324),
        (exact.sin, math.pi, 1.2246467991473532e-16),
        (exact.sin, 2.0**18 + 1, NAN),
        (exact.sin, -INF, NAN),
        (exact.sin, NAN, NAN),
    ],
)
def test_special_values(function: Callable[[float], float], x: float, expected: float) -> None:
    assert repr(function(x)) == repr(expected)


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (0.0, 0, 1.0),
        (0.0, 0.5, 0.0),
        (0.0, 0.3, 0.0),
        (0.0, -1, INF),
        (0.0, -0.5, INF),
        (0.0, -0.3, INF),
        (-2.0, 3, -8.0),
        (-2.0, -3, -0.125),
        (-2.0, -2, 0.25),
        (-1.0, 0.5, NAN),
        (-1.0, 1.5, NAN),
        (-1.0, -0.5, NAN),
        (-1.0, 0.3, NAN),
        (INF, 0.5, INF),
        (INF, -1, 0.0),
        (INF, -0.3, 0.0),
        (1e300, 2, INF),
        (1e-300, 2, 0.0),
        (NAN, 2, NAN),
        (NAN, -0.5, NAN),
        (NAN, 0.3, NAN),
        (4.0, 0.5, 2.0),
        (4.0, -1.5, 0.125),
    ],
)
def test_special_values_of_a_power(base: float, exponent: float, expected: float) -> None:
    assert repr(exact.pow(base, exponent)) == repr(expected)


def test_tanh_and_sin_are_odd_and_cos_even() -> None:
    for x in uniform(0, 20, 500):
        assert exact.tanh(-x) == -exact.tanh(x)
        assert exact.sin(-x) == -exact.sin(x)
        assert exact.cos(-x) == exact.cos(x)


SEAMS = {
    "exp between two nodes": (exact.exp, [(k + 0.5) / 128 for k in range(-400, 400, 7)]),
    "exp at the ends of the table": (exact.exp, [-600.0, 600.0]),
    "log at the fold and at 1": (exact.log, [math.sqrt(0.5), math.sqrt(2), 0.5, 1.0, 2.0]),
    "tanh where the formula changes": (exact.tanh, [0.75]),
}


@pytest.mark.parametrize("case", SEAMS)
def test_no_step_backwards_at_a_seam(case: str) -> None:
    function, seams = SEAMS[case]
    for seam in seams:
        around = [seam + i * math.ulp(seam) for i in range(-20, 21)]
        values = [function(x) for x in around]
        assert values == sorted(values), seam


# ---------------------------------------------------------------------------------------- the bits
