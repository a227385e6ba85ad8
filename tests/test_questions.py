"""Which question a run asks: what changes its signature, what must not, and what past runs asked."""

import json
import math
from importlib import import_module
from inspect import signature as arguments_of
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from microgpt.ablation.evidence.lock import config_of, content_of
from microgpt.run.identity import NEUTRAL, choices, leaves, question, signature
from tests.experiments import EXPERIMENTS, arithmetic, asked, asks, configs
from tests.golden.check import HERE

LOCKS = Path(__file__).parent.parent / "experiments"


def pairs(config: dict[str, Any]) -> frozenset[tuple[str, str]]:
    """What a configuration asks, but for the seed."""
    return frozenset((k, json.dumps(value)) for k, value in asked(config).items() if k != "seed")


# Between them the slow ones have every group: a new key of any shows.
MANY_GROUPS = ("batch_beta2", "ladder", "lr_width", "schedule", "transfer")


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=pytest.mark.slow if name in MANY_GROUPS else pytest.mark.soak)
        for name in EXPERIMENTS
    ],
)
def test_an_experiment_asks_what_its_recorded_runs_asked(experiment: str) -> None:
    """A key that is new in conf/ must stand in NEUTRAL, or the recorded runs are another question's."""
    file = LOCKS / experiment / "results.lock.json"
    lock = content_of(file) if file.exists() else None  # of whatever schema
    if not lock or lock["ablation"] != asks(experiment)[0]:
        pytest.skip("its runs are to come")
    known = {run["signature"] for run in lock["runs"]}  # of those that failed too
    run = next(run for run in lock["runs"] if run["status"] == "finished")
    for config in configs(experiment, 3):
        changed = pairs(config) - pairs(config_of(lock, run))
        assert signature(config, lock["data"]["digest"], arithmetic(config)) in known, changed


def test_a_run_without_a_lock_asks_what_it_asked() -> None:
    golden = json.loads((HERE / "signatures/original.json").read_text(encoding="utf-8"))
    assert {pairs(config) for config in configs("original")} == {pairs(golden["config"])}


def nested(key: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": value}}` of "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


BASE = {
    "seed": 1,
    "data": {"_target_": "microgpt.datasets.sources.Names", "val_fraction": 0.1},
    "model": {"_target_": "microgpt.core.models.gpt.GPT", "n_embd": 8},
}


def with_key(key: str, value: Any, base: dict[str, Any] = BASE) -> dict[str, Any]:
    merged = OmegaConf.to_container(OmegaConf.merge(base, nested(key, value)))
    assert isinstance(merged, dict)
    return {str(name): each for name, each in merged.items()}


def sign(config: dict[str, Any]) -> str:
    return signature(config, "d", "exact")


@pytest.mark.parametrize("key", NEUTRAL)
def test_a_key_with_its_neutral_value_was_always_there(key: str) -> None:
    neutral = NEUTRAL[key]
    assert sign(with_key(key, neutral)) == sign(BASE)
    assert choices(with_key(key, neutral))[key] == neutral  # but a store shows it
    for other in (None, 0.5, "x", 1, 0, True, False):
        if type(other) is not type(neutral) or other != neutral:
            assert sign(with_key(key, other)) != sign(BASE), other


def test_a_neutral_value_is_neutral_for_classes_of_ours_alone() -> None:
    """A class of the user's may have another default."""
    base = with_key("model._target_", "mine.Model")
    for key in ("model.norm_embd", "model.block.residual"):
        assert sign(with_key(key, NEUTRAL[key], base)) != sign(base)
    assert sign(with_key("trainer.accumulate", 1, base)) == sign(base)


# One size of each: the other has the same classes.
@pytest.mark.parametrize(
    "experiment", [e for e in EXPERIMENTS if "_64" not in e and "_tun" not in e]
)
def test_where_a_class_of_ours_has_a_default_it_is_the_neutral_value(experiment: str) -> None:
    config = leaves(configs(experiment, most=1)[0])
    for key in NEUTRAL:
        group, _, name = key.rpartition(".")
        target = config.get(f"{group}._target_")
        if name != "_target_" and target is not None:
            module, _, cls = target.rpartition(".")
            found = arguments_of(getattr(import_module(module), cls)).parameters.get(name)
            if found is not None and found.default is not found.empty:
                assert found.default == NEUTRAL[key], key


def test_engines_with_the_same_bits_ask_the_same() -> None:
    one = with_key("engine", {"_target_": "microgpt.vector.VectorEngine"})
    other = with_key("engine", {"_target_": "microgpt.native.NativeEngine", "threads": 2})
    assert question(one, "exact") == question(other, "exact")
    assert question(one, "exact")["engine"] == "exact"
    assert sign(one) == sign(other) != signature(one, "d", "libm")


def test_an_engine_of_the_users_counts_as_a_class_too() -> None:
    """It may inherit the arithmetic of ours, and compute something else."""
    ours, mine, yours, slower = (
        with_key("engine", engine)
        for engine in (
            {"_target_": "microgpt.vector.VectorEngine"},
            {"_target_": "mine.Half"},
            {"_target_": "yours.Half"},
            {"_target_": "yours.Half", "share": 2},
        )
    )
    assert len({sign(config) for config in (BASE, ours, mine, yours, slower)}) == 4
    assert sign(ours) == sign(BASE)
    assert sign(mine) != signature(mine, "d", "libm")


def test_a_source_of_ours_counts_by_its_documents_and_one_of_the_users_as_a_class() -> None:
    """Theirs may divide the same documents otherwise, or make other batches of them."""
    ours, mine, yours = (
        with_key("data._target_", name)
        for name in ("microgpt.datasets.sources.Lines", "mine.Source", "yours.Source")
    )
    assert sign(ours) == sign(BASE)
    assert len({sign(BASE), sign(mine), sign(yours)}) == 3


def test_whole_numbers_are_spelled_in_one_way() -> None:
    assert sign({"a": 1}) == sign({"a": 1.0})
    ours, theirs = (with_key("model._target_", f"{name}.Model") for name in ("microgpt", "mine"))
    assert sign(with_key("model.x", 1, ours)) == sign(with_key("model.x", 1.0, ours))
    assert sign(with_key("model.x", 1, theirs)) != sign(with_key("model.x", 1.0, theirs))


VALUES: list[Any] = [
    *(
        1,
        "1",
        True,
        "true",
        None,
        "null",
        1.5,
        "1.5",
        [1],
        [True],
        0,
        -0.0,
        False,
        "",
        [],
        {},
        [[]],
    ),
    *([{}], math.nan, "NaN", math.inf, "inf", -math.inf),
]
DIFFERENT: list[dict[str, Any]] = [
    *({"a": value} for value in VALUES),
    {},
    {"a": {"b": 1}},
    {"a": {"b": {"c": 1}}},
    {"a.b": 1},
    {"a": {"b.c": 1}},
    {"a.b": {"c": 1}},
    {"a": {"b": 1, "c": {}}},
    {"a": {1: 1}},
    {"a": {"1": 1}},
    {"a": {1.5: 1}},
    {"a": {"1.5": 1}},
    {"a": {True: 1}},
    {"a": [{"b": 1}]},
    {"a": [{1: 1}]},
    {"a": [{"1": 1}]},
    {"a": [["b", 1]]},
    {"a": [{"": [["b", 1]]}]},
    {'["a': {'b"]': 1}},
    {"a\\": {"b": 1}},
    {"a": {"b\\": {"c": 1}}},
]


def test_different_configurations_never_have_one_signature() -> None:
    found = [sign(config) for config in DIFFERENT]
    assert len(set(found)) == len(found)


def test_a_key_of_the_data_is_not_the_digest_of_the_data() -> None:
    one, other = ({"data": {"digest": value}} for value in "de")
    assert signature(one, "e", "exact") != signature(other, "e", "exact")


def test_a_fork_asks_another_question_unless_it_changes_nothing() -> None:
    origin = {"signature": sign(BASE), "step": 3, "fork": None}
    assert signature(BASE, "d", "exact", origin) == sign(BASE)
    changed = {**BASE, "seed": 2}
    fork = signature(changed, "d", "exact", origin)
    later = signature(changed, "d", "exact", {**origin, "step": 4})
    assert len({fork, later, sign(changed), sign(BASE)}) == 4
