"""Validation of constructor arguments; an error names the key, the value and what is allowed."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class BadValue(ValueError):
    """An invalid value; `key` is its name in the configuration."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        self.key, self.value, self.allowed = key, value, allowed
        super().__init__(f"{key}={value!r}: {allowed}")


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Prefixes the key of a BadValue raised in the block: `lr` becomes `optimizer.lr`."""
    try:
        yield
    except BadValue as error:
        raise BadValue(f"{prefix}.{error.key}", error.value, error.allowed) from error


def integer(key: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """`value` as an int from `minimum` to `maximum`; booleans and floats are refused."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < minimum or (maximum is not None and value > maximum):  # type: ignore[operator]
        upper = "" if maximum is None else f" and <= {maximum}"
        raise BadValue(key, value, f"must be an integer >= {minimum}{upper}")
    return value  # type: ignore[return-value]


def flag(key: str, value: object) -> bool:
    """`value` as a boolean."""
    if not isinstance(value, bool):
        raise BadValue(key, value, "must be true or false")
    return value


def choice(key: str, value: object, options: Sequence[str]) -> str:
    """`value` as one of the options."""
    if value not in options:
        raise BadValue(key, value, f"must be {' or '.join(options)}")
    return str(value)


def number(key: str, value: object, allowed: str, holds: Callable[[float], bool]) -> float:
    """`value` as a finite float that satisfies `holds`; `allowed` describes the condition."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):  # type: ignore[arg-type]
        raise BadValue(key, value, f"must be a number {allowed}")
    return float(value)  # type: ignore[arg-type]


def positive(key: str, value: object) -> float:
    """`value` as a finite float > 0."""
    return number(key, value, "> 0", lambda v: v > 0)


def nonnegative(key: str, value: object) -> float:
    """`value` as a finite float >= 0."""
    return number(key, value, ">= 0", lambda v: v >= 0)


def fraction(key: str, value: object) -> float:
    """`value` as a float in [0, 1)."""
    return number(key, value, ">= 0 and < 1", lambda v: 0 <= v < 1)


def zero_or_from(key: str, value: object, minimum: float) -> float:
    """`value` as a finite float that is 0, or >= `minimum`."""
    allowed = f">= 0, and >= {minimum:g} unless it is 0"
    return number(key, value, allowed, lambda v: v == 0 or v >= minimum)
