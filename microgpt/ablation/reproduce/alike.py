"""Compares what a lock says with what is computed again, which another SciPy may give other last digits."""

import math
import re
from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-9  # relative, of computed figures; those of trained runs are compared bit by bit
NEAR_ZERO = 1e-12  # absolute
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def unlike(said: Any, given: Any, place: str) -> tuple[str, Any, Any] | None:
    """The path and values of the first leaf that differs between two structures, if any."""
    if isinstance(said, Mapping) and isinstance(given, Mapping) and said.keys() == given.keys():
        pairs = [(f"{place}.{key}", said[key], given[key]) for key in said]
    elif isinstance(said, list) and isinstance(given, list) and len(said) == len(given):
        pairs = [
            (_named(place, one, i), one, other) for i, (one, other) in enumerate(zip(said, given))
        ]
    else:
        return None if _same(said, given) else (place, said, given)
    found = (unlike(one, other, where) for where, one, other in pairs)
    return next((each for each in found if each), None)


def _same(said: Any, given: Any) -> bool:
    if isinstance(said, bool) or isinstance(given, bool):
        return said is given
    if isinstance(said, int | float) and isinstance(given, int | float):
        return math.isclose(said, given, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)
    if isinstance(said, str) and isinstance(given, str):
        return said == given or _same_text(said, given)
    return bool(said == given)


def _same_text(said: str, given: str) -> bool:
    """Whether two texts differ at most in the last digit of numbers, which rounding may have tipped."""
    if NUMBER.split(said) != NUMBER.split(given):
        return False
    pairs = zip(NUMBER.findall(said), NUMBER.findall(given))
    return all(
        abs(float(a) - float(b)) < 1.5 * 10.0 ** -_decimals(a, b) for a, b in pairs if a != b
    )


def _decimals(*numbers: str) -> float:
    """The decimals of numbers that are written alike; infinity if they have none, or not the same."""
    found = {len(number.partition(".")[2]) for number in numbers}
    return found.pop() if len(found) == 1 and found != {0} else math.inf


def _named(place: str, row: Any, index: int) -> str:
    """`table[n_head=4]` if the row is an arm, else `table[0]`."""
    return f"{place}[{row['arm'] if isinstance(row, Mapping) and 'arm' in row else index}]"
