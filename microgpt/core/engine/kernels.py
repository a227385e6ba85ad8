"""The arithmetic of matrices as lists of rows of floats.

A sum goes from left to right in plain additions: the builtin `sum` became compensated in Python 3.12 and
`math.sumprod` is exact, so that either would give other bits on other versions. A dot product is
source text, generated for its width: with all terms in one expression over local variables it takes
half the time of `sum(map(mul, a, b))`. Reading several rows at a time into more locals, or one
row against a block, was measured too and gains nothing: the two float operations a term are all.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

from microgpt.core.engine.base import Rows

Products: TypeAlias = Callable[[Rows, Rows], Rows]
Dots: TypeAlias = Callable[[Rows, Rows], list[float]]

WIDEST = 128  # two rows of it fill the 256 local variables that one bytecode reaches

SOURCE = """
def products(a, b):
    out = []
    for {x} in a:
        row = []
        for {y} in b:
            row.append({terms})
        out.append(row)
    return out

def dots(a, b):
    return [{terms} for ({x}), ({y}) in zip(a, b)]
"""


@cache
def kernels(width: int) -> tuple[Products, Dots]:
    """`nt` and `dots` for rows of one width."""
    x, y = ("".join(f"{name}{i}," for i in range(width)) for name in "xy")
    terms = "+".join(f"x{i}*y{i}" for i in range(width))
    scope: dict[str, tuple[Products, Dots]] = {}
    exec(f"{SOURCE.format(x=x, y=y, terms=terms)}\nboth = products, dots", scope)
    return scope["both"]


def nt(a: Rows, b: Rows) -> Rows:
    """a times b transposed, the only product there is: `[T][n], [m][n] -> [T][m]`."""
    if len(b[0]) <= WIDEST:
        return kernels(len(b[0]))[0](a, b)
    left = nt([row[:WIDEST] for row in a], [row[:WIDEST] for row in b])
    return plus(left, nt([row[WIDEST:] for row in a], [row[WIDEST:] for row in b]))


def dots(a: Rows, b: Rows) -> list[float]:
    """Each row of a times the same row of b: `[T][n], [T][n] -> [T]`."""
    if len(b[0]) <= WIDEST:
        return kernels(len(b[0]))[1](a, b)
    left = dots([row[:WIDEST] for row in a], [row[:WIDEST] for row in b])
    right = dots([row[WIDEST:] for row in a], [row[WIDEST:] for row in b])
    return [x + y for x, y in zip(left, right)]


def total(row: Sequence[float]) -> float:
    """The sum from left to right."""
    result = 0.0
    for x in row:
        result += x
    return result


def transposed(a: Rows) -> Rows:
    """`[T][n] -> [n][T]`; in lists, since unpacking is quick where it meets one type only."""
    return list(map(list, zip(*a)))


def plus(a: Rows, b: Rows) -> Rows:
    """a + b, of one shape."""
    return [[x + y for x, y in zip(p, q)] for p, q in zip(a, b)]


def times(a: Rows, b: Rows) -> Rows:
    """a * b entry by entry, of one shape."""
    return [[x * y for x, y in zip(p, q)] for p, q in zip(a, b)]


def scaled(a: Rows, factor: float) -> Rows:
    """a * factor."""
    return [[x * factor for x in row] for row in a]
