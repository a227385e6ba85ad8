"""Composes a configuration from overrides, and applies overrides to a run's configuration."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import OmegaConf

from microgpt.app import config_path
from microgpt.build import resolve
from microgpt.complaints import UNCOMPOSED, composed, explain, parsed
from microgpt.terminal import ConfigError

FIXED = (
    "resume",
    "experiment",
    "hydra",
    "paths",
    "skip",
    "sweep",
)  # a fork keeps its parent's


def resolved(words: Sequence[str], folder: Path | None = None) -> dict[str, Any]:
    """The configuration that `microgpt train` composes, with the files of `folder` added.

    Raises ConfigError.
    """
    folders = [config_path(), *([folder] if folder else [])]
    try:
        return resolve(composed(words, folders))
    except UNCOMPOSED as error:
        raise ConfigError(explain(error, words, folders, many=False)) from error


def overridden(config: dict[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """`config` with overrides `key=value` of existing keys and `group=option`. Raises ConfigError.

    An option replaces its whole group; keys are set after groups, in whatever order they are given.
    """
    overrides = [_parsed(word) for word in words]
    folder = config_path()
    groups = [o for o in overrides if (folder / o.key_or_group).is_dir()]
    changed = copy.deepcopy(config)
    for group in groups:
        _set(changed, group, _option(group))
    for override in overrides:
        if override not in groups:
            _set(changed, override, override.value())
    return changed


def _parsed(word: str) -> Override:
    """Parses one override. Raises ConfigError."""
    override = parsed(word)
    if override.type is not OverrideType.CHANGE or override.is_sweep_override():
        raise ConfigError(f"{word}: must be key=value or group=option, with one value")
    top = override.key_or_group.partition(".")[0]
    if top in FIXED:
        raise ConfigError(f"{word}: a fork keeps its parent's {top}")
    return override


def _option(group: Override) -> Any:
    """The configuration of a group's option. Raises ConfigError."""
    words, folders = [str(group.input_line)], [config_path()]
    try:
        chosen = OmegaConf.select(composed(words, folders), group.key_or_group.replace("/", "."))
        return OmegaConf.to_container(chosen, resolve=True)
    except UNCOMPOSED as error:
        raise ConfigError(explain(error, words, folders, many=False)) from error


def _set(config: dict[str, Any], override: Override, value: Any) -> None:
    """Sets an existing key. Raises ConfigError."""
    *parents, name = override.key_or_group.replace("/", ".").split(".")
    place: Any = config
    for parent in parents:
        place = place.get(parent) if isinstance(place, dict) else None
    if not isinstance(place, dict) or name not in place:
        there = ", ".join(place) if isinstance(place, dict) else "no keys"
        where = ".".join(parents) or "the run"
        raise ConfigError(f"{override.input_line}: no such key; {where} has {there}")
    place[name] = value
