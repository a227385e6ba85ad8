"""The configurations of the jobs of a sweep, from their overrides."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from microgpt.build import check_keys, resolve
from microgpt.complaints import composing
from microgpt.terminal import ConfigError

CHOICES = 256  # of options, whose configurations are kept
ENVIRONMENT = re.compile(r"\$\{oc\.env:[^${}]*\}")  # an interpolation that no other key changes


class Composer:
    """Composes the configurations of jobs, without Hydra's own part.

    Hydra takes a tenth of a second for one. So it composes once for each choice of options, and
    plain values are set on copies, as Hydra sets them. Where a word of another kind, as `+a.b=1` or
    `~a`, touches such a value, their order counts, and Hydra composes them all.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._load = lru_cache(CHOICES)(self._composed)
        self._base = lru_cache(CHOICES)(self._resolved)
        self._options = cache(loader.get_group_options)
        self._parse = cache(OverridesParser.create(config_loader=loader).parse_override)

    def __call__(self, words: Sequence[str]) -> DictConfig:
        """The configuration of one job. Raises what Hydra raises."""
        values, others = self._divided(words)
        config = self._load(*others).copy()
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    def plain(self, words: Sequence[str]) -> dict[str, Any]:
        """The same as plain values. Jobs share what they have in common: it is not to be changed.

        Raises ConfigError, and what Hydra raises.
        """
        values, others = self._divided(words)
        config = self._base(*others)
        for override in values:
            if config is None:
                break
            config = _with(config, override.key_or_group.split("."), override.value())
        if config is None:
            return resolve(self(words))
        check_keys(config)
        return config

    def _divided(self, words: Sequence[str]) -> tuple[list[Override], list[str]]:
        """The overrides that set a plain value, and the words of the others, which Hydra composes."""
        overrides = [self._parse(word) for word in words]
        values = [override for override in overrides if self._is_value(override)]
        others = [override for override in overrides if override not in values]
        edits = [override for override in others if not self._options(override.key_or_group)]
        if any(_touch(value, edit) for value in values for edit in edits):
            return [], list(words)
        return values, [str(override.input_line) for override in others]

    def _resolved(self, *options: str) -> dict[str, Any] | None:
        """What these options alone give; None where one value may depend on another."""
        config = self._load(*options)
        texts = filter(_is_interpolation, _values(OmegaConf.to_container(config)))
        if not all(ENVIRONMENT.fullmatch(text) for text in texts):
            return None
        try:
            return resolve(config)
        except ConfigError:  # a value that is still to be given, perhaps
            return None

    def _composed(self, *options: str) -> DictConfig:
        with composing():
            config = self._loader.load_sweep_config(self._master, list(options))
        with open_dict(config):
            del config["hydra"]
        return config

    def _is_value(self, override: Override) -> bool:
        plain = override.type == OverrideType.CHANGE and override.package is None
        return plain and not self._options(override.key_or_group)


def _touch(one: Override, other: Override) -> bool:
    """Whether one sets what lies in the other."""
    a, b = f"{one.key_or_group}.", f"{other.key_or_group}."
    return a.startswith(b) or b.startswith(a)


def _with(config: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any] | None:
    """A copy with another plain value for a key; None where it is not as simple as that."""
    name, *rest = path
    before = config.get(name, {})
    if rest:
        after = _with(before, rest, value) if isinstance(before, dict) else None
        return None if after is None else {**config, name: after}
    if name not in config or isinstance(before, dict | list) or isinstance(value, dict | list):
        return None
    if _is_interpolation(value) or value == "???":
        return None
    return {**config, name: value}


def _is_interpolation(value: Any) -> bool:
    return isinstance(value, str) and "${" in value


def _values(config: Any) -> Iterator[Any]:
    """All values of a configuration, however deep."""
    if isinstance(config, Mapping):
        config = list(config.values())
    if isinstance(config, list):
        for each in config:
            yield from _values(each)
    else:
        yield config
