"""The arithmetic of the vector engine: matrices as lists of rows of floats.

A sum goes from left to right in plain additions: the builtin `sum` became compensated in Python 3.12 and
`math.sumprod` is exact, so that either would give other bits on other versions. The inner loops
are source text, generated for their width: a dot product in one expression over local variables takes
half the time of `sum(map(mul, a, b))`. What is left are two float operations a term, and a fixed price
for each. Measured and no faster: blocks of several rows in one expression, the longer matrix outside
or inside, two floats in a complex number. What does pay is to leave products with 0 out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import compress, repeat
from operator import add, mul
from typing import Any, TypeAlias

from microgpt.core import exact
from microgpt.core.engine.base import Rows

Kernel: TypeAlias = Callable[[Iterable[Any]], Any]

WIDEST = 128  # two rows of it fill the 256 local variables that one bytecode reaches
SOURCE = """
def products(pairs):
    out = []
    for ({x}), others in pairs:
        row = []
        for {y} in others:
            row.append(({dots}))
        out.append(row)
    return out

def dots(pairs):
    out = []
    for ({x}), ({y}) in pairs:
        out.append(({dots}))
    return out

def sums(rows):
    out = []
    for terms in rows:
        {clear} = 0.0
        for ({w}), ({y}) in terms:
            {add}
        out.append([{x}])
    return out
"""


FURTHER = """
def further(rows):
    out = []
    for ({x}), begun, others in rows:
        row = []
        for total, ({y}) in zip(begun, others):
            row.append(total+{dots})
        out.append(row)
    return out
"""


@cache
def for_rows(n: int) -> list[Kernel]:
    """Three kernels for rows x and y of n numbers.

    `products` makes of each (x, many y) a row of x . y; `sums` of each row of ((w,), y) the sum of w y;
    `dots` of each (x, y) x . y.
    """
    return _compiled([(i, 0, i) for i in range(n)], "")


@cache
def for_heads(n_head: int, size: int, share: int) -> list[Kernel]:
    """The same with a product and a weight for each head, of `size` numbers; `share` heads read one of y.

    x is a row of queries, or of what attention gives, y one of keys or values. The third kernel is
    `sums` the other way round: of rows of (w of all heads, x) a row that is like y.
    """
    terms = [(i, i // size, i // size // share * size + i % size) for i in range(n_head * size)]
    back = [(j, h, i) for i, h, j in terms]
    return [*_compiled(terms, ",")[:2], _compiled(back, ",")[1]]


def _compiled(terms: list[tuple[int, int, int]], comma: str) -> list[Kernel]:
    """The kernels whose terms are x[i] * y[j] for head h, as numbers or with a comma as tuples."""
    widths = [1 + max(places) for places in zip(*terms)]
    x, w, y = ("".join(f"{a}{i}," for i in range(n)) for a, n in zip("xwy", widths))
    dots = ["+".join(f"x{i}*y{j}" for i, h, j in terms if h == head) for head in range(widths[1])]
    add = ";".join(f"x{i}+=w{h}*y{j}" for i, h, j in terms)
    clear = x.replace(",", "=").removesuffix("=")
    scope: dict[str, Kernel] = {}
    exec(SOURCE.format(x=x, w=w, y=y, dots=",".join(dots) + comma, add=add, clear=clear), scope)
    return [scope["products"], scope["sums"], scope["dots"]]


@cache
def _further(n: int) -> Kernel:
    """Of rows (x, sums so far, many y) rows of the sums with x . y added, term by term."""
    x, y = ("".join(f"{a}{i}," for i in range(n)) for a in "xy")
    scope: dict[str, Kernel] = {}
    exec(FURTHER.format(x=x, y=y, dots="+".join(f"x{i}*y{i}" for i in range(n))), scope)
    return scope["further"]


def nt(a: Rows, b: Rows) -> Rows:
    """a times b transposed: `[T][n], [m][n] -> [T][m]`."""
    if len(a[0]) <= WIDEST:
        return for_rows(len(a[0]))[0](zip(a, repeat(b)))  # type: ignore[no-any-return]
    out = nt([row[:WIDEST] for row in a], [row[:WIDEST] for row in b])
    for start in range(WIDEST, len(a[0]), WIDEST):
        part = slice(start, start + WIDEST)
        others = [row[part] for row in b]
        further = _further(len(others[0]))
        out = further(zip([row[part] for row in a], out, repeat(others)))
    return out


def dots(a: Rows, b: Rows) -> list[float]:
    """Each row of a times the same row of b: `[T][n], [T][n] -> [T]`."""
    return for_rows(len(a[0]))[2](zip(a, b))  # type: ignore[no-any-return]


def nt_where(mask: Rows, a: Rows, b: Rows) -> Rows:
    """nt(a, b) where the mask is not 0, and 0 elsewhere."""
    out = []
    for marks, row in zip(mask, a):
        some = iter(nt([row], list(compress(b, marks)))[0])
        out.append([next(some) if mark else 0.0 for mark in marks])
    return out


def thin(a: Rows, b: Rows) -> Rows:
    """a times b, without the terms that a 0 in a makes: `[T][m], [m][n] -> [T][n]`."""
    rows = (zip(zip(filter(None, row)), compress(b, row)) for row in a)
    return for_rows(len(b[0]))[1](rows)  # type: ignore[no-any-return]


def is_thin(a: Rows) -> bool:
    """Whether more than half is 0, as ReLU leaves it; by the row in the middle, since counting costs."""
    row = a[len(a) // 2]
    return 2 * row.count(0.0) > len(row)


def transposed(a: Rows) -> Rows:
    """`[T][n] -> [n][T]`; in lists, since unpacking is quick where it meets one type only."""
    return list(map(list, zip(*a)))


def plus(a: Rows, b: Rows) -> Rows:
    """a + b, of one shape."""
    return [list(map(add, p, q)) for p, q in zip(a, b)]


def times(a: Rows, b: Rows) -> Rows:
    """a * b entry by entry, of one shape."""
    return [list(map(mul, p, q)) for p, q in zip(a, b)]


def quotients(a: Rows, b: Rows) -> Rows:
    """a / b entry by entry, of one shape."""
    return [list(map(quotient, p, q)) for p, q in zip(a, b)]


def scaled(a: Rows, factors: Iterable[float]) -> Rows:
    """Each row of a times its factor."""
    return [[x * factor for x in row] for row, factor in zip(a, factors)]


def total(row: Iterable[float]) -> float:
    """The sum from left to right."""
    result = 0.0
    for x in row:
        result += x
    return result


def softmax(row: Sequence[float]) -> list[float]:
    """exp(x) / sum(exp(x)), with the maximum taken off first."""
    top, exp, mass, exps = max(row), exact.exp, 0.0, []
    for x in row:
        exps.append(e := exp(x - top))
        mass += e
    scale = 1 / mass
    return [e * scale for e in exps]


def softmax_back(probs: Sequence[float], grad: Sequence[float]) -> list[float]:
    """p (g - sum(p g))."""
    mean = total([p * g for p, g in zip(probs, grad)])
    return [p * (g - mean) for p, g in zip(probs, grad)]


def sign(x: float) -> float:
    """The sign of x: -1, 0 or 1; not a number if x is none."""
    return float((x > 0) - (x < 0)) if x == x else x


def quotient(x: float, y: float) -> float:
    """x / y as IEEE 754 has it: dividing by 0 gives an infinity or not a number."""
    if y:
        return x / y
    return math.copysign(math.inf, x) * math.copysign(1.0, y) if x and x == x else math.nan


def adam(
    p: Rows, g: Rows, m: Rows, v: Rows, beta1: float, beta2: float, rate: float, eps: float
) -> None:
    """The update of `Engine.adam`, in place: what is freed is at once used again, while it is cached."""
    c1, c2, sqrt = 1 - beta1, 1 - beta2, math.sqrt
    for p_row, g_row, m_row, v_row in zip(p, g, m, v):
        for i, x in enumerate(g_row):
            m_row[i] = a = beta1 * m_row[i] + c1 * x
            v_row[i] = b = beta2 * v_row[i] + c2 * (x * x)
            p_row[i] -= rate * a / (sqrt(b) + eps)
