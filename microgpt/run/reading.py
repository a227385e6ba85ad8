"""Reads the files of records. A damaged one raises BadRecord, which names it and what is wrong."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple

import yaml

# The C versions take a tenth of the time; PyYAML may lack them.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What PyYAML raises for values that are not of their tag, such as `!!bool x` or a 31st of February.
IN_SCALARS = (ValueError, LookupError, AttributeError, TypeError, OverflowError)


class BadRecord(ValueError):
    """A file of a record that is missing or damaged."""

    def __init__(self, file: Path | str, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(file, problem)  # so that it can be pickled

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(self.problem.split())}"


class Kind(NamedTuple):
    """The values that a key of a record may have."""

    words: str
    holds: Callable[[Any], bool]


Kinds = Mapping[str, Kind]


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file; others, such as a pipe, could keep the reader waiting. Raises BadRecord."""
    if not S_ISREG(stat_of(path).st_mode):
        raise BadRecord(path, "must be a file, but is a folder, a pipe or a device")
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BadRecord(path, error.strerror or type(error).__name__) from error


def stat_of(path: Path) -> os.stat_result:
    """The state of a file. Raises BadRecord."""
    try:
        return os.stat(path)
    except OSError as error:
        raise BadRecord(path, error.strerror or type(error).__name__) from error


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises BadRecord."""
    with reading(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, with its line ends. Raises BadRecord."""
    return decoded(read_bytes(path), path)


def decoded(content: bytes, file: Path | str) -> str:
    """Bytes of `file` as UTF-8 text. Raises BadRecord."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadRecord(file, f"must be UTF-8 text, but byte {error.start} is not") from error


def json_of(content: bytes, file: Path | str) -> dict[str, Any]:
    """The object that is the content of a JSON file. Raises BadRecord."""
    text = decoded(content, file)
    try:
        value = json.loads(text)
        if "\\u" in text:  # perhaps of half a character, which nothing can print or keep
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadRecord(file, "has half a character (a lone surrogate)") from error
    except RecursionError as error:
        raise BadRecord(file, "is nested too deeply") from error
    except ValueError as error:
        raise BadRecord(file, f"is not JSON ({error})" if text.strip() else "is empty") from error
    return mapping(value, file)


def yaml_of(content: bytes, file: Path | str) -> dict[str, Any]:
    """The mapping that is the content of a YAML file. Raises BadRecord.

    Aliases are refused: no record has any, and with them a short file becomes gigabytes.
    """
    text = decoded(content, file)
    try:
        mark = _alias(text) if "*" in text else None
        value = None if mark else yaml.load(text, LOADER)
    except RecursionError as error:
        raise BadRecord(file, "is nested too deeply") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1} " if error.problem_mark else ""
        raise BadRecord(file, f"{line}is not valid YAML ({error.problem})") from error
    except (yaml.YAMLError, *IN_SCALARS) as error:
        raise BadRecord(file, f"is not valid YAML ({error})") from error
    if mark:
        raise BadRecord(file, f"line {mark.line + 1} has an alias, which no record has")
    return mapping(value, file)


def _alias(text: str) -> Any:
    """Where the first alias of a YAML text begins; None if there is none."""
    events = yaml.parse(text, LOADER)
    return next((each.start_mark for each in events if isinstance(each, yaml.AliasEvent)), None)


def row_of(line: bytes, file: Path | str) -> dict[str, float]:
    """A line of a file of metrics: the step, and numbers. Raises BadRecord."""
    row = json_of(line, file)
    if type(row.get("step")) is not int or not all(map(_is_number, row.values())):
        raise BadRecord(file, "must hold a step and numbers")
    return row


def mapping(value: Any, file: Path | str) -> dict[str, Any]:
    """`value` if it is a mapping with texts as keys. Raises BadRecord."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        kind = "empty" if value is None else f"of type {type(value).__name__}"
        raise BadRecord(file, f"must hold keys, but is {kind}")
    return value


def check(
    value: Mapping[str, Any], file: Path | str, required: Kinds, others: Kinds | None = None
) -> None:
    """Raises BadRecord unless `value` has the required keys, and these and `others` are of their kinds."""
    for key in required:
        if key not in value:
            raise BadRecord(file, f"has no {key}")
    for key, kind in {**required, **(others or {})}.items():
        if key in value and not kind.holds(value[key]):
            shown = repr(value[key])
            shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
            raise BadRecord(file, f"{key} must be {kind.words}, but is {shown}")


def or_null(kind: Kind) -> Kind:
    """The same kind, or null."""
    return Kind(f"{kind.words} or null", lambda value: value is None or kind.holds(value))


def each(kind: Kind) -> Kind:
    """A list of values of a kind."""
    holds = kind.holds
    return Kind(
        f"a list, each {kind.words}",
        lambda value: isinstance(value, list) and all(map(holds, value)),
    )


def with_keys(words: str, required: Kinds, others: Kinds | None = None) -> Kind:
    """A mapping that has the required keys, and these and `others` of their kinds."""
    pairs = {**required, **(others or {})}.items()
    return Kind(
        words,
        lambda value: (
            isinstance(value, dict)
            and required.keys() <= value.keys()
            and all(kind.holds(value[key]) for key, kind in pairs if key in value)
        ),
    )


def _is_number(value: Any) -> bool:
    """Whether a value is a float, or an int that has one."""
    return type(value) is float or (type(value) is int and abs(value) < 2**63)


TEXT = Kind("a text", lambda value: isinstance(value, str))
COUNT = Kind("a whole number >= 0", lambda value: type(value) is int and value >= 0)
TIME = Kind("seconds since 1970", lambda value: _is_number(value) and 0 <= value < 1e11)
NUMBER = Kind("a number", _is_number)
KEYS = Kind("a mapping", lambda value: isinstance(value, dict))
NUMBERS = Kind(
    "a mapping of numbers",
    lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
)
TEXTS = Kind(
    "a mapping of texts",
    lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
)
