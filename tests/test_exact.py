"""core/exact.py: errors against an outside oracle, special values, and the same bits everywhere."""

import math
from collections.abc import Callable
from hashlib import sha256
from random import Random
from struct import pack

import mpmath
import pytest

from microgpt.core import exact

BITS = "2d567b6007fd236e063ed7dea9996e79ae0c271bf4b7618d549981bfe1965d6f"


def points(low: float, high: float, n: int = 4000) -> list[float]:
    rng = Random(f"{low} {high}")
    return [rng.uniform(low, high) for _ in range(n)]


def errors(ours: Callable[[float], float], name: str, arguments: list[float]) -> list[float]:
    """Absolute errors, measured at 60 digits."""
    with mpmath.workdps(60):
        return [float(abs(ours(x) - getattr(mpmath, name)(mpmath.mpf(x)))) for x in arguments]


@pytest.mark.parametrize(
    ("name", "arguments", "bound"),
    [
        ("exp", points(-700, 709.7) + points(-1, 1) + [0.0, 1e-300, 709.78], 0.51),
        ("exp", points(-745, -708), 1.01),
        ("log", [10**x for x in points(-307, 308)] + points(0.5, 2) + [5e-324, 1e-310], 0.8),
        ("tanh", points(-22, 22) + points(-1, 1) + [1e-300], 1.6),
    ],
)
def test_error_in_ulp(name: str, arguments: list[float], bound: float) -> None:
    ours = getattr(exact, name)
    worst = max(e / math.ulp(ours(x)) for e, x in zip(errors(ours, name, arguments), arguments))
    assert worst < bound


def test_cos_error() -> None:
    assert max(errors(exact.cos, "cos", points(-7, 7) + points(-1e5, 1e5))) < 1.6e-16


def test_special_values() -> None:
    inf, nan = math.inf, math.nan
    assert [exact.exp(x) for x in (inf, -inf, 1000.0, -1000.0, 0.0)] == [inf, 0.0, inf, 0.0, 1.0]
    assert [exact.log(x) for x in (0.0, inf, 1.0)] == [-inf, inf, 0.0]
    assert [exact.tanh(x) for x in (inf, -inf, 30.0, 0.0)] == [1.0, -1.0, 1.0, 0.0]
    undefined = [exact.exp(nan), exact.log(nan), exact.log(-1.0), exact.log(-inf), exact.tanh(nan)]
    assert all(math.isnan(x) for x in undefined)


def test_exp_grows_across_the_steps_of_its_table() -> None:
    for k in range(-300, 300):
        x = k * math.log(2) / 128
        around = [exact.exp(y) for y in (math.nextafter(x, -9), x, math.nextafter(x, 9))]
        assert around == sorted(around)


def test_normal_numbers_are_normal() -> None:
    rng = Random(0)
    numbers = [exact.normal(rng) for _ in range(20_000)]
    mean = math.fsum(numbers) / len(numbers)
    moments = [math.fsum((x - mean) ** k for x in numbers) / len(numbers) for k in (2, 3, 4)]
    assert abs(mean) < 0.03
    assert all(
        abs(m - true) < tolerance
        for m, true, tolerance in zip(moments, (1, 0, 3), (0.05, 0.1, 0.3))
    )


def test_the_same_bits_on_every_machine() -> None:
    rng = Random(3)
    domains = ((exact.exp, -50, 50), (exact.log, 0, 50), (exact.tanh, -3, 3), (exact.cos, -9, 9))
    results = [f(rng.uniform(low, high)) for f, low, high in domains for _ in range(1000)]
    results += [exact.normal(rng) for _ in range(1000)]
    assert sha256(pack(f"<{len(results)}d", *results)).hexdigest() == BITS
