"""What a sweep varies, as the overrides of each job: grids, keys side by side, explicit arms."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice, product
from math import prod
from typing import Any

from hydra.core.override_parser.types import Override

from microgpt.syntax import key_and_value, quoted
from microgpt.terminal import ConfigError, follow, span

LARGEST = 100_000  # jobs


def expand(
    overrides: Sequence[Override],
    zipped: Sequence[Sequence[str]],
    arms: Sequence[Mapping[str, Any]],
) -> list[list[str]]:
    """The overrides of each job, the last key varying fastest. Raises ConfigError.

    overrides  those of the command line; of two with one key the last counts
    zipped     groups of keys whose values go side by side, the first with the first
    arms       explicit arms, each some keys and their values; all are crossed with the rest
    """
    axes = {override.get_key_element(): words_of(override) for override in overrides}
    beside = {key.lstrip("+~") for key in axes}
    if twice := [key for arm in arms for key in arm if key in beside]:
        problem = "stands in hydra.sweeper.arms and beside them; one place must say it"
        raise ConfigError(f"{twice[0]}: {problem}")
    factors: list[list[list[str]]] = []
    for keys in zipped:
        factors.append(_side_by_side(keys, axes))
    if arms:
        factors.append([[f"{key}={written(arm[key])}" for key in arm] for arm in arms])
    for words in axes.values():
        factors.append([[word] for word in words])
    if prod(map(len, factors)) > LARGEST:
        raise ConfigError(f"a sweep must have at most {LARGEST:,} jobs; the values given make more")
    return [[word for words in choice for word in words] for choice in product(*factors)]


def words_of(override: Override) -> list[str]:
    """An override once for each of its values. Raises ConfigError."""
    if override.is_delete() and override.value() is None:
        return [override.get_key_element()]  # whatever its value
    if not override.is_sweep_override():
        values = [override.get_value_element_as_str()]
    elif override.is_discrete_sweep():
        try:
            values = list(islice(override.sweep_string_iterator(), LARGEST + 1))
        except ValueError as error:  # a range whose step is 0
            raise ConfigError(f"{override.input_line}: {error}") from error
    else:
        problem = "has no end of values; write range(...), choice(...) or a,b,c"
        raise ConfigError(f"{override.input_line}: {problem}")
    as_typed = {"True": "true", "False": "false"}
    if not values:
        raise ConfigError(f"{override.input_line}: has no values")
    return [f"{override.get_key_element()}={as_typed.get(value, value)}" for value in values]


def _side_by_side(keys: Sequence[str], axes: dict[str, list[str]]) -> list[list[str]]:
    """The zipped words of `keys`, which are taken out of `axes`. Raises ConfigError."""
    for key in keys:
        if key not in axes:
            raise ConfigError(f"hydra.sweeper.zip={key}: must be a key of the sweep, as {key}=a,b")
    columns = {key: axes.pop(key) for key in keys}
    lengths = {len(words) for words in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{key} has {len(words)}" for key, words in columns.items())
        raise ConfigError(f"hydra.sweeper.zip: keys side by side need as many values; {told}")
    return [list(row) for row in zip(*columns.values())]


def written(value: Any) -> str:
    """A value of a YAML file as it is written on the command line; a text stands as it is."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_inner(each)}" for key, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_inner, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _inner(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else written(value)


def grid_of(jobs: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Every key that differs between jobs, with its values in the order in which they come."""
    rows = [dict(map(key_and_value, job)) for job in jobs]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    grid = {key: list(dict.fromkeys(row[key] for row in rows if key in row)) for key in keys}
    everywhere = {key for key in keys if all(key in row for row in rows)}
    return {key: values for key, values in grid.items() if len(values) > 1 or key not in everywhere}


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """`model.n_head` -> `n_head`, where that says which."""
    last = {key: key.replace("/", ".").rpartition(".")[2] for key in keys}
    names = list(last.values())
    return {key: name if names.count(name) == 1 else key for key, name in last.items()}


def varied(grid: Mapping[str, Sequence[str]]) -> str:
    """What a sweep varies, and over what: `n_head=1,2,4 seed=0-4`."""
    names = short_names(list(grid))
    words = {key: list(short_values(values).values()) for key, values in grid.items()}
    return " ".join(f"{names[key]}={_span(values)}" for key, values in words.items())


def _span(values: Sequence[str]) -> str:
    """Values in short: successive numbers as a span, of many the first and the last."""
    if follow(values):
        return span(values)
    return ",".join(values) if len(values) <= 6 else f"{values[0]}..{values[-1]} ({len(values)})"


def short_values(values: Sequence[str]) -> dict[str, str]:
    """`data/names.txt` -> `names.txt`, where that says which."""
    last = {value: value.rpartition("/")[2] for value in values}
    return last if len({*last.values()}) == len(last) else {value: value for value in values}
