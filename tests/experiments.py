"""The jobs of an experiment of conf/, as `microgpt train -m experiment=NAME` would train them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from microgpt.app import config_path
from microgpt.build import part, plain, resolve
from microgpt.protocol.arms import Planned
from microgpt.run.identity import question
from microgpt.sweep.compose import Composer
from microgpt.sweep.expand import expand, grid_of
from microgpt.sweep.planned import arms_of, zipped
from microgpt.syntax import key_and_value

EXPERIMENTS = sorted(file.stem for file in config_path().glob("experiment/*.yaml"))


def rows_of(loader: ConfigLoader, master: DictConfig, experiment: str) -> list[list[str]]:
    """The overrides of each job."""
    sweeper = master.hydra.sweeper
    words = [f"experiment={experiment}", *(f"{key}={v}" for key, v in sweeper.params.items())]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(words)
    return expand(parsed, zipped(sweeper.zip), arms_of(sweeper.arms))


@contextmanager
def loaded(experiment: str) -> Iterator[tuple[ConfigLoader, DictConfig]]:
    """Hydra's loader, and the configuration of the sweep."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        word = f"experiment={experiment}"
        yield loader, loader.load_configuration("train", [word], RunMode.MULTIRUN)


def configs(experiment: str, most: int = 8) -> list[dict[str, Any]]:
    """The configurations of at most so many jobs, the first and others evenly among all."""
    with loaded(experiment) as (loader, master):
        rows, composed = rows_of(loader, master, experiment), Composer(loader, master)
        return [resolve(composed(row)) for row in rows[:: -(-len(rows) // most)]]


def asks(experiment: str) -> tuple[dict[str, Any] | None, list[Planned]]:
    """The `ablation` section of an experiment, None without a question, and its arms."""
    with loaded(experiment) as (loader, master):
        section = master.hydra.sweeper.ablation
        rows = [dict(map(key_and_value, row)) for row in rows_of(loader, master, experiment)]
    varied = grid_of([[f"{key}={value}" for key, value in row.items()] for row in rows])
    arms: dict[str, tuple[dict[str, str], list[int]]] = {}
    for row in rows:
        differs = {key: row[key] for key in row if key in varied and key != "seed"}
        arms.setdefault(str(differs), (differs, []))[1].append(int(row.get("seed", 0)))
    planned = [Planned(name, differs, seeds) for name, (differs, seeds) in arms.items()]
    return None if section is None else plain(section), planned


def arithmetic(config: dict[str, Any]) -> str:
    """That of a configuration's engine."""
    return str(part(config, "engine").arithmetic)


def asked(config: dict[str, Any]) -> dict[str, Any]:
    """The question of a configuration."""
    return question(config, arithmetic(config))
