"""The configurations of the jobs of a sweep, from their overrides."""

from collections.abc import Sequence
from functools import cache

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict


class Composer:
    """Composes the configurations of jobs, with Hydra's own part or without.

    Hydra takes a tenth of a second for one. So it composes once for each choice of options, and
    plain values are set on copies, as Hydra sets them. Words of other kinds are left to Hydra.
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
        options = [override for override in overrides if self._options(override.key_or_group)]
        if len(values) + len(options) < len(words):  # of `+a=1` and `~a` the order counts
            return self._load(*words).copy()
        config = self._load(*(str(option.input_line) for option in options)).copy()
        for override in values:
            OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        return config

    def _composed(self, *options: str) -> DictConfig:
        config = self._loader.load_sweep_config(self._master, list(options))
        if not self._with_hydra:
            with open_dict(config):
                del config["hydra"]
        return config

    def _is_value(self, override: Override) -> bool:
        plain = override.type == OverrideType.CHANGE and override.package is None
        return plain and not self._options(override.key_or_group)
