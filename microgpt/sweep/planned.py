"""What a sweep will train, from its configuration and the words of a command line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from microgpt.build import check_keys, plain
from microgpt.sweep.asked import asked_of
from microgpt.sweep.compose import Composer
from microgpt.sweep.expand import expand, grid_of
from microgpt.sweep.plan import Job, jobs_of
from microgpt.syntax import key_and_value
from microgpt.terminal import ConfigError


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep, and what they have in common."""

    jobs: list[Job]
    grid: dict[str, list[str]]  # swept keys and their values
    constant: list[str]  # the words of all jobs
    config: dict[str, Any]  # what those give
    section: Any  # `hydra.sweeper.ablation`, as plain values


def plan_of(
    sweeper: Any, loader: ConfigLoader, master: DictConfig, arguments: Sequence[str]
) -> Plan:
    """The plan of a sweep. Raises ConfigError, and what Hydra raises.

    sweeper  has `params`, `zip`, `arms` and `ablation`, as in conf/hydra/sweeper
    """
    words = [f"{key}={value}" for key, value in sweeper.params.items()]
    parser = OverridesParser.create(config_loader=loader)
    rows = expand(
        parser.parse_overrides([*words, *arguments]), zipped(sweeper.zip), arms_of(sweeper.arms)
    )
    grid = grid_of(rows)
    constant = [word for word in rows[0] if key_and_value(word)[0] not in grid]
    compose = Composer(loader, master)
    config = plain(compose(constant))
    check_keys(config)
    return Plan(jobs_of(rows, grid, compose), grid, constant, config, section_in(sweeper))


def protocol_of(words: Sequence[str], folder: Path) -> dict[str, Any] | None:
    """The content of the protocol of `microgpt train -m` with these words, as of today.

    folder  has the configurations
    """
    with _composed(words, folder) as (loader, master):
        plan = plan_of(master.hydra.sweeper, loader, master, words)
    return asked_of(plan.section, plan.jobs, plan.config)


def section_of(words: Sequence[str], folder: Path) -> Any:
    """The `ablation` section of `microgpt train -m` with these words, as of today, as plain values."""
    with _composed(words, folder) as (_, master):
        return section_in(master.hydra.sweeper)


@contextmanager
def _composed(words: Sequence[str], folder: Path) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    with initialize_config_dir(str(folder), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("train", list(words), RunMode.MULTIRUN)


def section_in(sweeper: Any) -> Any:
    """`hydra.sweeper.ablation`, as plain values."""
    stated = sweeper.ablation
    return plain(stated) if OmegaConf.is_config(stated) else stated


def zipped(value: Any) -> list[list[str]]:
    """`hydra.sweeper.zip` as groups of keys: a list of keys is one. Raises ConfigError."""
    groups = [value] if is_list(value) and value and isinstance(value[0], str) else value
    if not is_list(groups) or not all(is_list(group) for group in groups):
        raise ConfigError(f"hydra.sweeper.zip={value}: must be a list of keys of the sweep")
    return [list(group) for group in groups]


def arms_of(value: Any) -> list[Mapping[str, Any]]:
    """`hydra.sweeper.arms`; none for null. Raises ConfigError."""
    if value is None:
        return []
    if not is_list(value) or not value or not all(isinstance(arm, Mapping) for arm in value):
        allowed = "must be null, or a list of at least one {key: value, ...}"
        raise ConfigError(f"hydra.sweeper.arms={value}: {allowed}")
    return list(value)


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
