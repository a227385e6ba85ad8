"""Any callable may be a `_target_`; an invalid one is a line that names the key, a fault is not hidden."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from microgpt.app import config_path
from microgpt.build import built, part, resolve
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.terminal import ConfigError

MINE = '''
from functools import partial

from microgpt.core.check import BadValue, positive
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.base import Norm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.models.gpt import GPT
from microgpt.core.source import Source


class Half:
    """No subclass of ours, but with all that a norm does."""

    def __init__(self, *, eps):
        self.eps = positive("eps", eps)

    @classmethod
    def made(cls, *, eps):
        return cls(eps=eps)

    def shapes(self, dims, site):
        return {}

    def __call__(self, ops, w, x, site):
        return x


class Shapeless:
    def __init__(self, *, eps):
        pass


class TypeFault(Norm):
    def __init__(self, *, eps):
        len(eps)


class NameFault(RMSNorm):
    def __init__(self, *, gain):
        super().__init__(gain=gain)


class ValueFault(Norm):
    def __init__(self, *, eps):
        int("three")


class Typed(GPT):
    """With its own constructor, which hints at its arguments by text."""

    def __init__(self, *, norm: "Norm | None", **others) -> None:
        super().__init__(norm=norm, **others)


def make(*, eps: float) -> RMSNorm:
    return RMSNorm(eps=eps)


def make_any(**settings):
    return RMSNorm(**settings)


def activation(*, eps):
    return ReLU()


class Documents(Source):
    def __init__(self, *, found):
        super().__init__(val_fraction=0.1, test_fraction=0.0, split="hash", split_seed=0)
        self.found = found

    def documents(self):
        return self.found


preset = partial(RMSNorm, eps=1e-5)
number = 3
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The default configuration, and a module `mine` of the user's own."""
    (tmp_path / "mine_of_build.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        return resolve(compose("train"))


def norm_of(config: dict[str, Any], target: str, **values: Any) -> Any:
    """The norm of a model whose configuration names this target for it."""
    config["model"]["norm"] = {"_target_": target, **values}
    return part(config, "model", vocab_size=5).norm


@pytest.mark.parametrize("target", ["make", "make_any", "preset", "Half", "Half.made"])
def test_any_callable_may_make_a_part(target: str, config: dict[str, Any]) -> None:
    made = norm_of(config, f"mine_of_build.{target}", eps=0.5)
    assert made.eps == 0.5
    assert isinstance(made, RMSNorm) == (not target.startswith("Half"))


def test_a_partial_brings_its_own_arguments(config: dict[str, Any]) -> None:
    assert norm_of(config, "mine_of_build.preset").eps == 1e-5


def test_a_class_with_a_constructor_of_its_own(config: dict[str, Any]) -> None:
    config["model"]["_target_"] = "mine_of_build.Typed"
    assert isinstance(part(config, "model", vocab_size=5).norm, RMSNorm)
    config["model"]["norm"] = {"_target_": "mine_of_build.activation", "eps": 1}
    with pytest.raises(ConfigError, match="must make a Norm"):
        part(config, "model", vocab_size=5)


@pytest.mark.parametrize(
    ("target", "values", "line"),
    [
        ("mine_of_build.number", {}, r"model\.norm\._target_='mine_of_build\.number': .*callable"),
        ("builtins.max", {}, r"model\.norm\._target_='builtins\.max': .*arguments"),
        ("mine_of_build.make", {}, r"model\.norm\.eps: is missing"),
        ("mine_of_build.Half.made", {}, r"model\.norm\.eps: is missing"),
        ("mine_of_build.make", {"eps": 1, "gain": 2}, r"model\.norm\.gain=2: no such key; .* eps"),
        ("mine_of_build.make", {"eps": -1}, r"model\.norm\.eps=-1: must be a number > 0"),
        ("mine_of_build.make_any", {"eps": 1, "gain": 2}, r"model\.norm\.gain: no such key here"),
        ("os.getcwd", {}, r"model\.norm\._target_='os\.getcwd': "),
        ("mine_of_build.make_any", {"eps": -1}, r"model\.norm\.eps=-1: must be a number > 0"),
        (
            "mine_of_build.activation",
            {"eps": 1},
            r"model\.norm\._target_='mine_of_build\.activation': must make a Norm",
        ),
        ("mine_of_build.Shapeless", {"eps": 1}, r"must make a Norm.*shapes"),
        ("microgpt.core.layers.activation.relu.ReLU", {}, "must make a Norm"),
    ],
)
def test_an_invalid_part_is_one_line(
    target: str, values: dict[str, Any], line: str, config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=line) as refused:
        norm_of(config, target, **values)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("found", [[1, 2], "ada", ["ada", 1], None])
def test_documents_are_a_list_of_texts(found: object, config: dict[str, Any]) -> None:
    config["data"] = {"_target_": "mine_of_build.Documents", "found": ["ada", "bob"]}
    assert built(config).documents == ["ada", "bob"]
    config["data"]["found"] = found
    line = r"^data\._target_='?mine_of_build\.Documents'?: documents\(\) must return a list of str$"
    with pytest.raises(ConfigError, match=line):
        built(config)


def test_a_group_is_what_a_run_asks_for(config: dict[str, Any]) -> None:
    for group, kind in [("schedule", "Schedule"), ("optimizer", "Optimizer"), ("data", "Source")]:
        config[group] = {"_target_": "microgpt.core.layers.norm.none.NoNorm"}
        name = rf"{group}\._target_='.*NoNorm'"
        with pytest.raises(ConfigError, match=rf"{name}: must make an? {kind}, but NoNorm has no"):
            part(config, group)


@pytest.mark.parametrize(
    ("kind", "key", "error"),
    [
        ("TypeFault", "eps", TypeError),
        ("ValueFault", "eps", ValueError),
        ("NameFault", "gain", TypeError),  # about its own call of another constructor
    ],
)
def test_a_fault_in_a_constructor_is_raised_as_it_is(
    kind: str, key: str, error: type[Exception], config: dict[str, Any]
) -> None:
    with pytest.raises(error) as fault:
        norm_of(config, f"mine_of_build.{kind}", **{key: 1})
    assert not isinstance(fault.value, ConfigError)
    assert Path(fault.traceback[-1].path).name == "mine_of_build.py"


def test_facts_about_the_data_are_those_of_each_run(config: dict[str, Any]) -> None:
    """They are counted once for runs with the same data, and anew for others."""
    texts = ["ada", "bob", "ada"]

    def told(**values: Any) -> list[int]:
        config["data"] = {**data, **values}
        facts = built(config, texts).data
        keys = "documents", "train_documents", "test_documents", "characters", "cut_by_block_size"
        return [facts[key] for key in keys]

    data = {**config["data"], "val_fraction": 0, "test_fraction": 0}
    data |= {"split": "shuffled", "split_seed": 0}
    for _ in range(2):
        assert told() == [3, 3, 0, 9, 0]
        assert told(test_fraction=0.5) == [3, 1, 2, 9, 0]
    texts += ["x" * 100]
    assert told() == [4, 4, 0, 109, 1]
