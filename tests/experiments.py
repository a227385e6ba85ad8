"""The jobs of an experiment of conf/, as `microgpt train -m experiment=NAME` would train them."""

from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from microgpt.app import config_path
from microgpt.build import part, plain, resolve
from microgpt.run.identity import question
from microgpt.sweep.command import arms_of, zipped
from microgpt.sweep.compose import Composer
from microgpt.sweep.expand import expand

EXPERIMENTS = sorted(file.stem for file in config_path().glob("experiment/*.yaml"))


def configs(experiment: str, most: int = 8) -> list[dict[str, Any]]:
    """The configurations of at most so many jobs, the first and others evenly among all."""
    word = f"experiment={experiment}"
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", [word], RunMode.MULTIRUN)
        sweeper = master.hydra.sweeper
        words = [word, *(f"{key}={value}" for key, value in sweeper.params.items())]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(words)
        composed = Composer(loader, master)
        rows = expand(parsed, zipped(sweeper.zip), arms_of(sweeper.arms))
        return [resolve(composed(row)) for row in rows[:: -(-len(rows) // most)]]


def protocol(experiment: str) -> dict[str, Any] | None:
    """The `ablation` section of an experiment; None without a question."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    section = cfg.hydra.sweeper.ablation
    return None if section is None else plain(section)


def arithmetic(config: dict[str, Any]) -> str:
    """That of a configuration's engine."""
    return str(part(config, "engine").arithmetic)


def asked(config: dict[str, Any]) -> dict[str, Any]:
    """The question of a configuration."""
    return question(config, arithmetic(config))
