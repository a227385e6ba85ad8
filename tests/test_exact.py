"""`microgpt.core.exact`: errors against 60-digit decimals, special values, and the bits themselves.

The bits are the contract: where a digest differs, training would make another model.
"""

import ast
import hashlib
import inspect
import math
import struct
from collections.abc import Callable, Iterable
from decimal import Decimal, getcontext, localcontext
from fractions import Fraction
from random import Random
from statistics import fmean

import pytest

from microgpt.core import exact

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


HALVES = (-2.5, -2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2, 2.5, 3)
OTHERS = (-1.7, -0.1, 0.25, 0.3, 3.3)


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


def digest(numbers: Iterable[float]) -> str:
    """sha256 of the numbers as little-endian doubles; no nan, whose sign is not fixed."""
    return hashlib.sha256(b"".join(struct.pack("<d", number) for number in numbers)).hexdigest()


EXP = [*uniform(-30, 30, 4000), *scaled(-60, 0, 500), *uniform(-750, 712, 500), INF, -INF]
LOG = [*scaled(-1074, 1023, 2500), *near_one(1000), *uniform(0, 4, 1500), 5e-324, 0.0, INF]
TANH = [*uniform(-4, 4, 3000), *scaled(-60, 9, 1500), INF, -INF]
ANGLES = [*uniform(-4, 4, 1500), *uniform(-(2**18), 2**18, 1500), *scaled(-60, 17, 1500)]
BASES = [*scaled(-60, 60, 300), *uniform(0, 4, 300), 0.0]
DRAWS = 20_000

DIGESTS = {
    "exp": (exact.exp, EXP, "96bbdc0a5bb83387f70b50b339514330d771cb86b89fbb4e736db38608080bac"),
    "log": (exact.log, LOG, "b742d5a39765c8a08fdd545e6ecdf21f6263a7475c80545623b4258d7b4b8e4c"),
    "tanh": (exact.tanh, TANH, "6cfec538d832bf66481b9f898c3da54cd71c154f6f78d222c88d27b85f406e97"),
    "sin": (exact.sin, ANGLES, "a8abb6c9dabc418a6dbddd4537f172a7f93ce8a2a5ef99a5ab3b473bb2ebb618"),
    "cos": (exact.cos, ANGLES, "f1d88d32cf5ebd5a8d387fcc538cc58f29f661f1f1ef858e1e2702d146891f32"),
}
POWERS = "fb590d7e5da416ec2db13540121108b7f6703ea330365b8752241e61ca87416f"
NORMAL = "47f02968b63f7124964e96238c9aeb65b227dca84a71648540adeb4b9a7e820d"


@pytest.mark.parametrize("name", DIGESTS)
def test_the_bits_are_those_of_every_other_machine(name: str) -> None:
    function, arguments, expected = DIGESTS[name]
    assert digest(map(function, arguments)) == expected


def test_the_bits_of_powers() -> None:
    numbers = [exact.pow(x, exponent) for exponent in (*HALVES, *OTHERS) for x in BASES]
    assert digest(numbers) == POWERS


def test_exp_does_not_depend_on_what_was_asked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    warm = [exact.exp(x) for x in EXP]
    monkeypatch.setattr(exact, "_NODES", {})
    assert [exact.exp(x) for x in reversed(EXP)] == warm[::-1]


def test_nothing_is_used_that_the_machine_could_round_otherwise() -> None:
    tree = list(ast.walk(ast.parse(inspect.getsource(exact))))
    own = {node.name for node in tree if isinstance(node, ast.FunctionDef)}
    for node in tree:
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "math":
            assert node.attr in {"copysign", "frexp", "inf", "ldexp", "nan", "sqrt"}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            assert type(ast.literal_eval(node.right)) is int
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"sum", "pow", "round"} - own


# ---------------------------------------------------------------------------------- normal numbers


def draws(count: int, seed: int = 42) -> list[float]:
    rng = Random(seed)
    return [exact.normal(rng) for _ in range(count)]


def test_normal_has_the_moments_of_a_normal() -> None:
    z = draws(DRAWS)
    assert abs(fmean(z)) < 3 / math.sqrt(DRAWS)
    assert abs(fmean(x**2 for x in z) - 1) < 3 * math.sqrt(2 / DRAWS)
    assert abs(fmean(x**3 for x in z)) < 3 * math.sqrt(15 / DRAWS)
    assert abs(fmean(x**4 for x in z) - 3) < 3 * math.sqrt(96 / DRAWS)
    assert abs(fmean(abs(x) > 1.959964 for x in z) - 0.05) < 3 * math.sqrt(0.05 * 0.95 / DRAWS)


def test_normal_keeps_all_its_state_in_the_generator() -> None:
    rng = Random(7)
    exact.normal(rng)
    state = rng.getstate()
    following = exact.normal(rng)
    rng.setstate(state)
    assert exact.normal(rng) == following


def test_the_bits_of_normal() -> None:
    assert digest(draws(DRAWS)) == NORMAL
