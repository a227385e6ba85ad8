"""conf/: every file composes, trains and is commented; what a run's signature depends on."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from importlib import import_module
from inspect import isclass
from itertools import zip_longest
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from microgpt.app import config_path
from microgpt.build import KEYS, PARTS, Parts, build, part, resolve
from microgpt.core.events import Event, Stepped
from microgpt.run.identity import leaves, signature
from tests.command import NAMES
from tests.options import choices

CONF = config_path()
FILES = sorted(file.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml"))
OPTIONS = [
    (group, name.removesuffix(".yaml"))
    for group, _, name in (file.rpartition("/") for file in FILES)
    if group and group.split("/")[0] not in ("hydra", "experiment", "debug")
]
GROUPS = {group for group, _ in OPTIONS}
PRESETS = ("experiment/", "debug/")  # files that set keys of others
EXPERIMENTS = [Path(file).stem for file in FILES if file.startswith("experiment/")]
FIRST = [name for name in EXPERIMENTS if not name.endswith(("_64", "_4x", "_tuning"))]
FREE = {
    "description",
    "experiment",
    "resume",
    "skip",
    "sweep",
    "progress",
    "paths.outputs",
    "data.path",
}

Compose = Callable[..., DictConfig]


@pytest.fixture
def composed(tmp_path: Path) -> Compose:
    """Composes `microgpt train` with overrides, small and on ten names unless `plain`."""
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))

    def function(*words: str, plain: bool = False) -> DictConfig:
        if not plain:
            return choices.composed(names, words)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("train", list(words))

    return function


def options(group: str) -> list[str]:
    return [option for there, option in OPTIONS if there == group]


def target(group: str, option: str) -> str | None:
    """The class that a file names; None for a preset, which begins with another file of its group."""
    text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    found = yaml.safe_load(text)
    assert "_target_" in found or found["defaults"][0] in options(group)
    return str(found["_target_"]) if "_target_" in found else None


def trained(cfg: DictConfig) -> tuple[Parts, list[Event]]:
    """What a configuration builds, and the events of its training."""
    parts = build(cfg)
    events: list[Event] = []
    parts.trainer.callbacks.append(events.append)
    parts.trainer.run()
    return parts, events


def test_there_is_something_to_test() -> None:
    assert len(OPTIONS) > 20
    assert "original" in EXPERIMENTS


def changed(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy with another value under `key`."""
    copy = inside = deepcopy(dict(config))
    *sections, last = key.split(".")
    for section in sections:
        inside = inside[section]
    value = inside[last]
    if isinstance(value, bool) or value is None:
        inside[last] = not value
    else:
        inside[last] = value + ("x" if isinstance(value, str) else 1)
    return copy


def check_signature(config: dict[str, Any], keys: Iterable[str]) -> None:
    """Each of the keys is in the configuration's signature, unless it is free."""
    asked = signature(config, "d", "a")
    for key in keys:
        free = key in FREE | {"data._target_"} or key.startswith(("tracking.", "engine."))
        same = signature(changed(config, key), "d", "a") == asked
        assert same == free, f"{key} is {'not ' if same else ''}in the signature"


def sets() -> list[list[tuple[str, str]]]:
    """Every option once, one of each group beside each other; a whole model, which has groups, alone."""
    groups = [
        [(group, option) for option in options(group)] for group in sorted(GROUPS - {"model"})
    ]
    beside = ([pair for pair in pairs if pair] for pairs in zip_longest(*groups))
    return [*([("model", option)] for option in options("model")), *beside]


@pytest.mark.parametrize("chosen", sets(), ids=lambda chosen: chosen[0][1])
def test_every_option_is_composed(chosen: list[tuple[str, str]], composed: Compose) -> None:
    """`tests/options` trains them all, but for tracking. Their keys are in the signature."""
    cfg = composed(*(f"{group}={option}" for group, option in chosen))
    config = resolve(cfg)
    part(config, "tracking")
    for group, option in chosen:
        section = group.replace("/", ".")
        found = OmegaConf.select(cfg, section)["_target_"]
        assert found == (target(group, option) or found)
        check_signature(config, [key for key in leaves(config) if key.startswith(f"{section}.")])


@pytest.mark.parametrize("name", FIRST)
def test_every_experiment_trains(name: str, composed: Compose) -> None:
    few = "trainer.num_steps=2", "trainer.eval_documents=8", "data.test_fraction=0"
    parts, events = trained(composed(f"experiment={name}", *few))
    assert parts.config["experiment"] == name
    assert sum(isinstance(event, Stepped) for event in events) == 2


@pytest.mark.parametrize("name", ["quick", "nan", "overfit"])
def test_every_preset_trains_untracked(name: str, composed: Compose) -> None:
    parts, events = trained(composed(f'debug="{name}"', "trainer.num_steps=3"))
    assert parts.config["tracking"]["_target_"].endswith("NoTracking")
    assert sum(isinstance(event, Stepped) for event in events) == 3


def test_overfitting_ends_where_the_documents_are_known(composed: Compose) -> None:
    parts, events = trained(composed("debug=overfit", plain=True))
    cost = math.log(8) / (parts.data["characters"] + 8) * 8
    (*_, last) = (event for event in events if isinstance(event, Stepped))
    assert last.loss == pytest.approx(cost, rel=0.1)


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_class_has_one_file_and_a_file_one_class(group: str) -> None:
    targets = [name for option in options(group) if (name := target(group, option))]
    assert len(set(targets)) == len(targets)
    packages = {name.rpartition(".")[0].rpartition(".")[0] for name in targets}
    classes = [found for name in targets if isclass(found := get_object(name))]  # not a factory
    contract = set.intersection(*(set(found.__mro__) for found in classes)) - {object}
    for package in packages - {"microgpt", "microgpt.core"}:  # of these, groups share the modules
        found = {
            f"{there.__module__}.{there.__qualname__}"
            for module in iter_modules(import_module(package).__path__)
            if module.name not in ("base", "primitives")
            for there in vars(import_module(f"{package}.{module.name}")).values()
            if isinstance(there, type) and (not contract or contract & set(there.__mro__))
            if there.__module__ == f"{package}.{module.name}"
        }
        assert found == {name for name in targets if name.startswith(f"{package}.")}


@pytest.mark.parametrize("file", FILES)
def test_every_file_and_every_key_says_what_it_is_for(file: str) -> None:
    lines = (CONF / file).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# "), "what is this option?"
    section = ""
    for line in lines:
        key = re.match(r"( *)([a-z_0-9]+):( |$)", line)
        if key and not key[1]:
            section = key[2]
        if not key or section in ("defaults", "hydra") or file.startswith(PRESETS):
            continue
        holds_keys = line.partition("#")[0].rstrip().endswith(":")
        assert "#" in line or holds_keys or key[2] == "_target_", f"what is {key[2]} for?"


def test_the_keys_are_those_that_are_checked(composed: Compose) -> None:
    assert set(composed(plain=True)) == set(KEYS)
    assert {group for group in GROUPS if "/" not in group} == set(PARTS)


def test_a_resolved_configuration_survives_its_file(composed: Compose) -> None:
    config = resolve(composed())
    again = yaml.safe_load(yaml.safe_dump(config, sort_keys=False))
    assert again == config
    assert resolve(OmegaConf.create(again)) == config
    parts, same = build(composed()), build(OmegaConf.create(again))
    assert signature(parts.config, parts.data["digest"], "exact") == signature(
        again, same.data["digest"], "exact"
    )


def test_the_signature_depends_on_every_key_but_the_free_ones(composed: Compose) -> None:
    """Those of other options are checked with these."""
    config = resolve(composed())
    keys = leaves(config).keys()
    assert len(keys) > 40
    check_signature(config, keys)
    assert signature(config, "d", "a") != signature(config, "e", "a")
    assert signature(config, "d", "a") != signature(config, "d", "b")


def test_the_signature_does_not_depend_on_order_or_spelling(composed: Compose) -> None:
    def turned(config: Any) -> Any:
        if not isinstance(config, dict):
            return config
        return {key: turned(config[key]) for key in reversed(config)}

    plain = resolve(composed(plain=True))
    told = ["seed=42", "optimizer=adam", "optimizer.lr=1e-2", "sampling.top_p=1", "schedule=linear"]
    for other in (turned(plain), resolve(composed(*told, plain=True))):
        assert signature(other, "d", "a") == signature(plain, "d", "a")
