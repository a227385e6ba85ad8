"""The arithmetic of the vector engine: matrices as lists of rows of floats.

A sum goes from left to right in plain additions: the builtin `sum` became compensated in Python 3.12 and
`math.sumprod` is exact, so that either would give other bits on other versions. The inner loops
are source text, generated for their width: a dot product in one expression over local variables takes
half the time of `sum(map(mul, a, b))`. What is left are two float operations a term, and a fixed price
for each. Measured and no faster: blocks of several rows in one expression, the longer matrix outside
or inside, two floats in a complex number. What does pay is to leave products with 0 out.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import compress
from math import sqrt
from typing import Any

from microgpt.core import exact
from microgpt.core.engine.base import Rows
from microgpt.core.optim.adam import power

WIDEST = 128  # two rows of it fill the 256 local variables that one bytecode reaches

SOURCES = {
    "nt": """
def nt(a, b):
    out = []
    for {x} in a:
        row = []
        for {y} in b:
            row.append({dot})
        out.append(row)
    return out
""",
    "dots": """
def dots(a, b):
    return [{dot} for ({x}), ({y}) in zip(a, b)]
""",
    "thin": """
from itertools import compress
def thin(a, b):
    out = []
    for row in a:
        {clear_x} = 0.0
        for w, ({y}) in zip(filter(None, row), compress(b, row)):
            {add_row}
        out.append([{x}])
    return out
""",
    "scores": """
def scores(q, k, before):
    out = []
    for seen, ({x}) in enumerate(q, before + 1):
        row = []
        for {y} in k[:seen]:
            row.append(({dots},))
        out.append(row)
    return out
""",
    "mixed": """
def mixed(weights, v):
    out = []
    for row in weights:
        {clear_x} = 0.0
        for ({w}), ({y}) in zip(row, v):
            {add_y}
        out.append([{x}])
    return out
""",
    "spread": """
def spread(weights, q, before):
    out = []
    for s in range(len(weights[-1])):
        {clear_y} = 0.0
        first = max(s - before, 0)
        for row, ({x}) in zip(weights[first:], q[first:]):
            {w} = row[s]
            {add_x}
        out.append([{y}])
    return out
""",
}


@cache
def for_rows(name: str, n: int) -> Callable[..., Any]:
    """`nt`, `dots` or `thin` for rows of n numbers."""
    return _compiled(
        name,
        x=_names("x", n),
        y=_names("y", n),
        dot="+".join(f"x{i}*y{i}" for i in range(n)),
        clear_x="=".join(f"x{i}" for i in range(n)),
        add_row=";".join(f"x{i}+=w*y{i}" for i in range(n)),
    )


@cache
def for_heads(n_head: int, size: int, share: int) -> list[Callable[..., Any]]:
    """`scores`, `mixed` and `spread` for heads of `size` numbers; `share` of them read one of keys.

    x is a row of queries (or of what comes out), y one of keys (or values), w a weight for each head.
    """
    n = n_head * size
    terms = [(i, i // size, i // size // share * size + i % size) for i in range(n)]
    dots = ["+".join(f"x{i}*y{j}" for i, h, j in terms if h == head) for head in range(n_head)]
    parts = {
        "x": _names("x", n),
        "y": _names("y", n // share),
        "w": _names("w", n_head),
        "dots": ",".join(dots),
        "clear_x": "=".join(f"x{i}" for i in range(n)),
        "clear_y": "=".join(f"y{j}" for j in range(n // share)),
        "add_x": ";".join(f"y{j}+=w{h}*x{i}" for i, h, j in terms),
        "add_y": ";".join(f"x{i}+=w{h}*y{j}" for i, h, j in terms),
    }
    return [_compiled(name, **parts) for name in ("scores", "mixed", "spread")]


def _names(letter: str, n: int) -> str:
    return "".join(f"{letter}{i}," for i in range(n))


def _compiled(name: str, **parts: str) -> Callable[..., Any]:
    scope: dict[str, Callable[..., Any]] = {}
    exec(SOURCES[name].format(**parts), scope)
    return scope[name]


def nt(a: Rows, b: Rows) -> Rows:
    """a times b transposed: `[T][n], [m][n] -> [T][m]`."""
    if len(a[0]) <= WIDEST:
        out: Rows = for_rows("nt", len(a[0]))(a, b)
        return out
    left = nt([row[:WIDEST] for row in a], [row[:WIDEST] for row in b])
    return plus(left, nt([row[WIDEST:] for row in a], [row[WIDEST:] for row in b]))


def dots(a: Rows, b: Rows) -> list[float]:
    """Each row of a times the same row of b: `[T][n], [T][n] -> [T]`."""
    out: list[float] = for_rows("dots", len(a[0]))(a, b)
    return out


def thin(a: Rows, b: Rows) -> Rows:
    """a times b, without the terms that a 0 in a makes: `[T][m], [m][n] -> [T][n]`."""
    out: Rows = for_rows("thin", len(b[0]))(a, b)
    return out


def is_thin(a: Rows) -> bool:
    """Whether more than half is 0, as ReLU leaves it; by the row in the middle, since counting costs."""
    row = a[len(a) // 2]
    return 2 * row.count(0.0) > len(row)


def nt_where(mask: Rows, a: Rows, b: Rows) -> Rows:
    """nt(a, b) where the mask is not 0, and 0 elsewhere."""
    out = []
    for marks, row in zip(mask, a):
        some = iter(nt([row], list(compress(b, marks)))[0])
        out.append([next(some) if mark else 0.0 for mark in marks])
    return out


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


def total(row: Iterable[float]) -> float:
    """The sum from left to right."""
    result = 0.0
    for x in row:
        result += x
    return result


def softmax(row: Sequence[float]) -> list[float]:
    """exp(x) / sum(exp(x)), with the maximum taken off first."""
    top, exp = max(row), exact.exp
    exps = [exp(x - top) for x in row]
    scale = 1 / total(exps)
    return [x * scale for x in exps]


def softmax_back(probs: Sequence[float], grad: Sequence[float]) -> list[float]:
    """p (g - sum(p g))."""
    mean = total([p * g for p, g in zip(probs, grad)])
    return [p * (g - mean) for p, g in zip(probs, grad)]


def power_of(x: float, exponent: float) -> float:
    """x to a constant power, by operations without a rounding of their own where it is a half or whole."""
    if exponent < 0:
        return 1 / power_of(x, -exponent)
    if (2 * exponent).is_integer():
        whole = power(x, int(exponent))
        return whole if float(exponent).is_integer() else sqrt(x) * whole
    return exact.exp(exponent * exact.log(x))
