"""The arithmetic of the vector engine: matrices as lists of rows of floats.

Sums run from left to right in plain additions: the builtin `sum` is compensated since Python 3.12 and
`math.sumprod` is exact, so either would change the bits between versions. The inner loops are source
text generated for their width: a dot product as one expression of local variables takes half the time
of `sum(map(mul, a, b))`, and only two float operations per term remain. Measured and not faster:
blocks of several rows in one expression, the longer matrix as outer or inner loop, two floats in a
complex number. Skipping products with 0 is faster.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import compress, repeat
from operator import add, mul
from typing import Any, TypeAlias

from microgpt.core import exact
from microgpt.core.engine.shapes import Rows

Kernel: TypeAlias = Callable[[Iterable[Any]], Any]

WIDEST = 128  # two rows are 256 local variables, the most without extended bytecode arguments
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

    products  for each pair (x, ys), the list of dot products x . y
    sums      for each list of pairs ((w,), y), the sum of w y
    dots      for each pair (x, y), the dot product x . y
    """
    return _compiled([(i, 0, i) for i in range(n)], "")


@cache
def for_heads(n_head: int, size: int, share: int) -> list[Kernel]:
    """The same per head of `size` numbers, where `share` heads of x read the same head of y.

    x is a row of queries or of attention's output, y a row of keys or values; `products` and `sums`
    have a product and a weight w for each head. The third kernel is the transpose of `sums`: for each
    list of pairs (w, x), a row of the width of y.
    """
    terms = [(i, i // size, i // size // share * size + i % size) for i in range(n_head * size)]
    back = [(j, h, i) for i, h, j in terms]
    return [*_compiled(terms, ",")[:2], _compiled(back, ",")[1]]


def _compiled(terms: list[tuple[int, int, int]], comma: str) -> list[Kernel]:
    """Kernels with the terms (i, h, j): x[i] * y[j] in head h. With a comma, results are tuples."""
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
    """A kernel that, for each (x, sums, ys), adds x . y to each sum, term by term."""
    x, y = ("".join(f"{a}{i}," for i in range(n)) for a in "xy")
    scope: dict[str, Kernel] = {}
    exec(FURTHER.format(x=x, y=y, dots="+".join(f"x{i}*y{i}" for i in range(n))), scope)
    return scope["further"]


def nt(a: Rows, b: Rows) -> Rows:
    """a b^T: `[T][n], [m][n] -> [T][m]`."""
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
    """The dot product of each row of a with the same row of b: `[T][n], [T][n] -> [T]`."""
    return for_rows(len(a[0]))[2](zip(a, b))  # type: ignore[no-any-return]


def nt_where(mask: Rows, a: Rows, b: Rows) -> Rows:
    """nt(a, b) where the mask is not 0, else 0."""
    out = []
    for marks, row in zip(mask, a):
        some = iter(nt([row], list(compress(b, marks)))[0])
        out.append([next(some) if mark else 0.0 for mark in marks])
    return out


def thin(a: Rows, b: Rows) -> Rows:
    """a b, skipping the terms where a is 0: `[T][m], [m][n] -> [T][n]`."""
    rows = (zip(zip(filter(None, row)), compress(b, row)) for row in a)
    return for_rows(len(b[0]))[1](rows)  # type: ignore[no-any-return]


def is_thin(a: Rows) -> bool:
    """Whether more than half of a is 0, as after ReLU; looks at the middle row only, to save time."""
    row = a[len(a) // 2]
    return 2 * row.count(0.0) > len(row)


def transposed(a: Rows) -> Rows:
    """`[T][n] -> [n][T]`, as lists: unpacking is faster where it meets only one type."""
    return list(map(list, zip(*a)))


def plus(a: Rows, b: Rows) -> Rows:
    """a + b, of the same shape."""
    return [list(map(add, p, q)) for p, q in zip(a, b)]


def times(a: Rows, b: Rows) -> Rows:
    """a * b elementwise, of the same shape."""
    return [list(map(mul, p, q)) for p, q in zip(a, b)]


def quotients(a: Rows, b: Rows) -> Rows:
    """a / b elementwise, of the same shape."""
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
    """exp(x) / sum(exp(x)); the maximum is subtracted first."""
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
    """The sign of x: -1, 0 or 1; nan if x is nan."""
    return float((x > 0) - (x < 0)) if x == x else x


def quotient(x: float, y: float) -> float:
    """x / y as in IEEE 754: dividing by 0 gives inf, -inf or nan."""
    if y:
        return x / y
    return math.copysign(math.inf, x) * math.copysign(1.0, y) if x and x == x else math.nan


def adam(
    p: Rows, g: Rows, m: Rows, v: Rows, beta1: float, beta2: float, rate: float, eps: float
) -> None:
    """The update of `Engine.adam`, in place, so that the memory stays in the CPU cache."""
    c1, c2, sqrt = 1 - beta1, 1 - beta2, math.sqrt
    for p_row, g_row, m_row, v_row in zip(p, g, m, v):
        for i, x in enumerate(g_row):
            m_row[i] = a = beta1 * m_row[i] + c1 * x
            v_row[i] = b = beta2 * v_row[i] + c2 * (x * x)
            p_row[i] -= rate * a / (sqrt(b) + eps)
