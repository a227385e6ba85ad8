"""What a configuration may name that was read from a run's folder, a store or a lock.

On the user's own command line `_target_` may be any callable. A configuration that was read may be
written by anybody: it may name only classes that are trusted, and `replayed` checks it before anything
that it names is imported.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import isclass
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, Protocol

import yaml

from microgpt.build import PARTS, asked_for
from microgpt.core.engine.base import Engine
from microgpt.parts import OURS, asked_of, parameters_of, target_of
from microgpt.run.source import Finder
from microgpt.syntax import shown
from microgpt.terminal import ConfigError, first_line

DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
FACTORIES = {"microgpt.native.engine": Engine}  # an option that is a function, and what it makes
PLAIN = (str, bool, int, float, NoneType)
TARGET = "_target_"


class Entry(NamedTuple):
    """A value of a configuration, with its key."""

    key: str  # the full name
    name: str  # its last part if it is one of Hydra's keys, which begin with _; else empty
    value: Any


class Untrusted(ConfigError):
    """A replayed configuration names what is not trusted; the message says what would be allowed."""


@dataclass(frozen=True)
class Trust:
    """The code that replayed configurations may name, beside this package's."""

    packages: tuple[str, ...] = ()  # whole packages or modules
    classes: frozenset[str] = frozenset()  # dotted paths

    def allows(self, target: str) -> bool:
        """Whether a class with this dotted path may be imported."""
        within = any(target.startswith(f"{name}.") for name in (OURS, *self.packages))
        return within or target in self.classes


OURS_ALONE = Trust()


def trust_of(packages: Sequence[str], folder: str | None) -> Trust:
    """The trust of `--trust PACKAGE` and `--config-dir DIR`: packages, and what files in DIR name.

    Raises ConfigError.
    """
    for name in packages:
        if not DOTTED.fullmatch(name):
            raise ConfigError(f"--trust {name}: must be the name of a package")
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"--config-dir {folder}: no such folder")
    files = sorted(Path(folder).rglob("*.yaml")) if folder is not None else []
    return Trust(tuple(packages), frozenset(name for file in files for name in _named_in(file)))


def _named_in(file: Path) -> list[str]:
    """Every `_target_` in a configuration file. Raises ConfigError."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file}: cannot be read ({first_line(error)})") from error
    named = [entry.value for entry in _entries("", content) if entry.name == TARGET]
    return [name for name in named if isinstance(name, str)]


def replayed(config: Any, trust: Trust, finder: Finder | None = None) -> dict[str, Any]:
    """A configuration from a folder, a store or a lock; everything that it names is trusted.

    A class stands only where the contract asks for one, and is a subclass of what it asks for. Other
    values are plain. Raises Untrusted, and ConfigError for a trusted class that cannot be imported.

    finder  finds the modules; one that is shared by the runs of a sweep looks for each once
    """
    if not isinstance(config, dict):
        raise Untrusted("config.yaml: must hold keys and values")
    for entry in _entries("", config):  # all names, before anything is imported
        _check_entry(entry, trust)
    finder = finder or Finder()
    for key, value in config.items():
        _check_place(key, value, asked_for(key, value) if key in PARTS else None, finder)
    return config


def _entries(key: str, value: Any) -> Iterator[Entry]:
    """Every value below a key that holds no others, and what stands under one of Hydra's keys."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            full = f"{key}.{name}" if key else str(name)
            if isinstance(name, str) and name.startswith("_"):
                yield Entry(full, name, each)
            else:
                yield from _entries(full, each)
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from _entries(f"{key}[{i}]", each)
    else:
        yield Entry(key, "", value)


def _check_entry(entry: Entry, trust: Trust) -> None:
    """Raises Untrusted for a name that is not trusted, and for a value that is not plain."""
    key, name, value = entry
    if name and name != TARGET:
        raise Untrusted(f"{key}: must not be there; of Hydra's keys only {TARGET} is replayed")
    if not isinstance(value, PLAIN):
        raise Untrusted(f"{key}: must be a number, a text, true, false or null")
    if isinstance(value, str) and "${" in value:
        raise Untrusted(f"{key}={shown(value)}: must be a value; a replay resolves no ${{...}}")
    if name and not (isinstance(value, str) and DOTTED.fullmatch(value) and trust.allows(value)):
        allowed = (
            f"must be a class of {OURS}, or one trusted by --trust PACKAGE or --config-dir DIR"
        )
        raise Untrusted(f"{key}={shown(value)}: {allowed}")


def _check_place(key: str, value: Any, asked: type | None, finder: Finder) -> None:
    """Raises Untrusted for a class where none is asked for, or another; ConfigError if it is gone."""
    if asked is None:
        for entry in _entries(key, value):
            if entry.name:
                allowed = f"must not be there; {key} is no part of a run"
                raise Untrusted(f"{entry.key}={shown(entry.value)}: {allowed}")
    elif isinstance(value, Mapping) and TARGET in value:
        found = _found(f"{key}.{TARGET}", value[TARGET], asked, finder)
        parameters = parameters_of(found)
        for name, each in value.items():
            if name != TARGET:
                _check_place(f"{key}.{name}", each, asked_of(parameters.get(name), each), finder)


def _found(key: str, target: str, asked: type, finder: Finder) -> Any:
    """The subclass of `asked` that a dotted path names. Raises Untrusted, ConfigError."""
    name, home = f"{key}={target!r}", target.rpartition(".")[0]
    refusal = Untrusted(f"{name}: must be a subclass of {asked.__name__}")
    module = finder.module(target)
    if module != home:  # of a path such as `module.os.system`, nothing is imported
        place = finder.place(module) if module else None
        if place and (module == target or place.folders is None):
            raise refusal
        raise ConfigError(f"{name}: cannot be imported (there is no module {home})")
    found = target_of(name, target)
    made = FACTORIES.get(target, found)
    if not isclass(made) or found is asked or not _is(made, asked):
        raise refusal
    return found


def _is(made: type, asked: type) -> bool:
    """Whether a class is a subclass of another; of a protocol, whether it has its methods."""
    if Protocol not in asked.__bases__:
        return issubclass(made, asked)
    methods = [name for name, value in vars(asked).items() if callable(value)]
    named = [name for name in methods if name == "__call__" or not name.startswith("_")]
    return all(any(name in vars(base) for base in made.__mro__) for name in named)
