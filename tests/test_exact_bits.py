"""The bits of `microgpt.core.exact`: where a digest differs, training would make another model."""

import ast
import hashlib
import inspect
import math
import struct
from collections.abc import Iterable
from random import Random
from statistics import fmean

import pytest

from microgpt.core import exact
from tests.arguments import HALVES, OTHERS, near_one, scaled, uniform

INF = math.inf


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
