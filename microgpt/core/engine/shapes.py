"""Shape checks for the operations of every engine.

Each raises ValueError, where `zip` would truncate silently.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Rows: TypeAlias = list[list[float]]
Bias: TypeAlias = Sequence[Sequence[float]] | None
Spans: TypeAlias = Sequence[tuple[int, int]]
Shape: TypeAlias = tuple[int, int]


def check_operand(a: Shape, b: Shape) -> None:
    """b can be broadcast to a: it is `[T][n]`, `[T][1]`, `[1][n]` or `[1][1]` if a is `[T][n]`."""
    if b[0] not in (1, a[0]) or b[1] not in (1, a[1]):
        raise ValueError(f"{_shown(b)} cannot be repeated to the shape {_shown(a)}")


def check_matrix(rows: Rows) -> Shape:
    """Rows of one length, of one number at least. Returns the shape."""
    n = len(rows[0]) if rows else 0
    if not n:
        raise ValueError(f"a matrix {_shown((len(rows), n))}: it needs a row and a column")
    for row in rows:
        if len(row) != n:
            raise ValueError(f"a matrix [{len(rows)}] with rows of {n} and of {len(row)} numbers")
    return len(rows), n


def check_same(target: Shape, source: Shape) -> None:
    """What is assigned has the shape of what it is assigned to."""
    if target != source:
        raise ValueError(f"{_shown(source)} cannot be assigned to {_shown(target)}")


def check_numbers(x: Shape, count: int) -> None:
    """So many numbers make up the matrix."""
    if count != x[0] * x[1]:
        raise ValueError(f"{count} numbers cannot be loaded into {_shown(x)}")


def check_loss(x: Shape, traced: bool) -> None:
    """A loss is one number that depends on a weight."""
    if x != (1, 1):
        raise ValueError(f"a loss is [1][1], not {_shown(x)}")
    if not traced:
        raise ValueError("the loss [1][1] does not depend on a weight")


def check_ids(ids: Sequence[int], below: int) -> None:
    """Each id is that of one of so many rows or columns; a negative one does not count from the end."""
    if ids and (min(ids) < 0 or max(ids) >= below):
        wrong = next(i for i in ids if not 0 <= i < below)
        raise ValueError(f"the id {wrong} is out of range: there are [{below}]")


def check_count(x: Shape, ids: Sequence[int]) -> None:
    """There is an id for each row."""
    if len(ids) != x[0]:
        raise ValueError(f"{len(ids)} ids for the rows of {_shown(x)}")


def check_range(x: Shape, start: int, stop: int) -> None:
    """Columns start..stop-1 are there, and one at least."""
    if not 0 <= start < stop <= x[1]:
        raise ValueError(f"columns {start}..{stop} of {_shown(x)}")


def check_widths(shapes: Iterable[Shape]) -> None:
    """All have rows of one length."""
    shapes = list(shapes)
    if any(shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"below each other: {', '.join(map(_shown, shapes))}")


def check_columns(x: Shape, w: Shape) -> None:
    """x and w have as many columns."""
    if x[1] != w[1]:
        raise ValueError(f"{_shown(x)} times {_shown(w)} transposed: rows must have one length")


def check_rows(shapes: Iterable[Shape]) -> None:
    """All have as many rows."""
    shapes = list(shapes)
    if any(shape[0] != shapes[0][0] for shape in shapes):
        raise ValueError(f"beside each other: {', '.join(map(_shown, shapes))}")


def check_bias(bias: Bias, n_head: int, spans: Spans) -> None:
    """A bias has a row for each head and a column for each distance within the longest document."""
    if bias is not None:
        longest = max(stop - start for start, stop in spans)
        if len(bias) != n_head or any(len(row) < longest for row in bias):
            lengths = [len(row) for row in bias]
            needed = f"{n_head} rows of at least {longest} numbers"
            raise ValueError(f"a bias with rows of {lengths} numbers; needed are {needed}")


def _shown(shape: Shape) -> str:
    return f"[{shape[0]}][{shape[1]}]"
