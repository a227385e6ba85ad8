"""The configurations of the jobs of a sweep, from their overrides."""

from collections.abc import Sequence
from functools import cache

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from microgpt.complaints import composing


class Composer:
    """Composes the configurations of jobs, with Hydra's own part or without.

    Hydra takes a tenth of a second for one. So it composes once for each choice of options, and
    plain values are set on copies, as Hydra sets them. Where a word of another kind, as `+a.b=1` or
    `~a`, touches such a value, their order counts, and Hydra composes them all.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig, with_hydra: bool = False) -> None:
        self._loader, self._master, self._with_hydra = loader, master, with_hydra
        self._load = cache(self._composed)
        self._options = cache(loader.get_group_options)
        self._parse = cache(OverridesParser.create(config_loader=loader).parse_override)

    def __call__(self, words: Sequence[str]) -> DictConfig:
        """The configuration of one job. Raises what Hydra raises."""
        overrides = [self._parse(word) for word in words]
        values = [override for override in overrides if self._is_value(override)]
        others = [override for override in overrides if override not in values]
        edits = [override for override in others if not self._options(override.key_or_group)]
        if any(_touch(value, edit) for value in values for edit in edits):
            return self._composed(*words)
        config = self._load(*(str(override.input_line) for override in others)).copy()
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    def _composed(self, *options: str) -> DictConfig:
        with composing():
            config = self._loader.load_sweep_config(self._master, list(options))
        if not self._with_hydra:
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
