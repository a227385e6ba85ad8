"""A recorded case: its file, its inputs, the form in which it is kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

RECORDED = Path(__file__).parent / "recorded"
Rows: TypeAlias = list[list[float]]
Case: TypeAlias = dict[str, Any]


def numbers(rng: Random, n_rows: int, n_columns: int, size: float = 1.0) -> Rows:
    """`[n_rows][n_columns]` numbers between -size and size, of three decimals."""
    return [[round(rng.uniform(-size, size), 3) for _ in range(n_columns)] for _ in range(n_rows)]


def names() -> list[str]:
    """The cases that are recorded."""
    return sorted(file.stem for file in RECORDED.glob("*.json"))


def recorded(name: str) -> Case:
    """A case as it was recorded."""
    case: Case = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return case


def of_kind(kind: str) -> list[str]:
    """The recorded cases of a kind."""
    return [name for name in names() if recorded(name)["kind"] == kind]


def text_of(case: Mapping[str, Any]) -> str:
    """JSON with one line for each matrix."""
    return _text(case, 1) + "\n"


def _text(value: Any, depth: int) -> str:
    """JSON, broken where a value holds objects or is one."""
    inner, outer = "\n" + " " * depth, "\n" + " " * (depth - 1)
    if isinstance(value, Mapping):
        items = [f"{json.dumps(key)}: {_text(v, depth + 1)}" for key, v in value.items()]
        return "{" + inner + f",{inner}".join(items) + outer + "}" if items else "{}"
    if isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
        items = [_text(v, depth + 1) for v in value]
        return "[" + inner + f",{inner}".join(items) + outer + "]"
    return json.dumps(value)


def far_apart(one: Any, other: Any, within: float, place: str = "") -> list[str]:
    """The places where two cases differ by more than `within` of the largest number around.

    Less than 1e-15 is rounding, as in the gradient of the keys' bias, which is 0.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        odd = [f"{place}.{key}" for key in one.keys() ^ other.keys()]
        return odd + [
            found
            for key in one.keys() & other.keys()
            for found in far_apart(one[key], other[key], within, f"{place}.{key}")
        ]
    ours, theirs = _flat(one), _flat(other)
    if len(ours) != len(theirs):
        return [place]
    scale = max([abs(x) for x in theirs if isinstance(x, float)], default=0.0)
    differ = [
        a != b if isinstance(b, str | bool | None) else not abs(a - b) <= within * scale + 1e-15
        for a, b in zip(ours, theirs)
    ]
    return [place] if any(differ) else []


def _flat(value: Any) -> list[Any]:
    """The numbers and words of nested lists and objects, in order."""
    if isinstance(value, Mapping):
        return [x for v in value.values() for x in _flat(v)]
    if isinstance(value, list):
        return [x for v in value for x in _flat(v)]
    return [value]
