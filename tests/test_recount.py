"""A lock's numbers are those that its runs give, whatever was asked; a change to any is found."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.reproduce.contradictions import edited_since
from microgpt.ablation.reproduce.recount import miscounted
from microgpt.ablation.reproduce.replay import Difference
from microgpt.app import config_path
from microgpt.sweep.planned import protocol_of
from tests.command import environment
from tests.running import REPOSITORY
from tests.sweeps import DOCUMENTS, Made, heads, lock_of, tuned_lock, tuning

TEXTS = DOCUMENTS.split("\n")[:-1]


def failing(made: Made) -> Made:
    """The same, with a run that failed in each of two arms."""
    lost = {(1, 0), (8, 3)}
    return replace(
        made,
        loss=lambda arm, seed: (
            "failed" if (arm["model.n_head"], seed) in lost else made.loss(arm, seed)
        ),
    )


LOCKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "heads": lambda bench: lock_of(bench, heads()),
    "heads, of which some failed": lambda bench: lock_of(bench, failing(heads(name="failing"))),
    "rates": lambda bench: lock_of(bench, tuning()),
    "width, tuned": lambda bench: tuned_lock(bench, tuning()),
    "width, tuned at an edge": lambda bench: tuned_lock(bench, tuning({32: 0.04})),
    "width, not tuned": lambda bench: tuned_lock(bench, None),
}


Locks = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def locks(bench: Path) -> Locks:
    """A lock by its name in LOCKS: a copy of one that is made once."""
    text_of = cache(lambda name: json.dumps(LOCKS[name](bench)))
    return lambda name: dict(json.loads(text_of(name)))


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_what_its_runs_give(locks: Locks, name: str) -> None:
    assert miscounted(locks(name), TEXTS) is None


def test_each_number_of_the_table_counts(locks: Locks) -> None:
    lock = locks("width, tuned")
    found = 0
    for i, row in enumerate(lock["table"]):
        for key in ("loss", "bpc", "difference"):
            for name in row[key] or {}:
                changed = copy.deepcopy(lock)
                changed["table"][i][key][name] = 0.123
                difference = miscounted(changed, TEXTS)
                assert difference is not None
                place = f"in table[{row['arm']}].{key}.{name}"
                assert difference.verdict.endswith(place)
                found += 1
    assert found > 20
    for key in ("verdict", "because", "baseline"):
        difference = miscounted({**lock, key: "other"}, TEXTS)
        assert difference is not None
        assert difference.verdict == f"the lock contradicts itself in {key}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("curves", "n_head=1", 0, "mean"), 2.0),
        (("multipliers", "n_head=1", "times"), 1.5),
        (("flattened", "fell", "n_head=4", "high"), 0.0),
        (("samples", "n_head=8", "novel"), 5),
    ],
)
def test_what_stands_beside_the_table_counts(
    locks: Locks, place: tuple[str | int, ...], value: float
) -> None:
    lock = locks("heads")
    *parents, last = place
    inside: Any = lock
    for key in parents:
        inside = inside[key]
    assert inside[last] != value
    inside[last] = value
    difference = miscounted(lock, TEXTS)
    assert difference is not None
    assert f"in {place[0]}" in difference.verdict


def test_a_loss_of_a_run_counts(locks: Locks) -> None:
    lock = locks("heads")
    lock["runs"][7]["metrics"]["val/loss"] += 1e-4
    difference = miscounted(lock, TEXTS)
    assert difference is not None
    assert lock["runs"][7]["arm"] in difference.verdict


def test_last_digits_may_differ_and_no_others(locks: Locks) -> None:
    """Another SciPy gives other last digits, and may tip the rounding of a number in a sentence."""
    lock = locks("heads")
    interval = lock["table"][0]["difference"]
    low = interval["low"]
    interval["low"] = low * (1 + 1e-11)
    assert miscounted(lock, TEXTS) is None
    interval["low"] = low * (1 + 1e-8)
    assert miscounted(lock, TEXTS) is not None
    interval["low"] = low
    first = re.findall(r"[-+]0\.\d{4}", lock["because"])[0]
    for change, same in ((0.0001, True), (0.0002, False)):
        said = lock["because"].replace(first, f"{float(first) + change:+.4f}")
        assert (miscounted({**lock, "because": said}, TEXTS) is None) is same


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda lock: lock["tuning"]["grids"][0].update(best=0.005), "tuning.grids[n_embd=8].best"),
        (lambda lock: lock["tuning"]["grids"][2]["points"][0].update(rate=0.004), "tuning.grids"),
        (lambda lock: lock["tuning"]["seeds"].append(7), "tuning.seeds"),
        (lambda lock: lock["tuning"]["runs"][3].update(loss=1.0), "t"),
        (lambda lock: lock["table"][2].update(flag=None), "table[n_embd=32 lr=0.01].flag"),
    ],
)
def test_what_chose_the_rates_counts(locks: Locks, change: Any, place: str) -> None:
    lock = locks("width, tuned at an edge")
    change(lock)
    difference = miscounted(lock, TEXTS)
    assert difference is not None
    assert f"contradicts itself in {place}" in difference.verdict


@pytest.mark.slow
def test_the_file_of_an_experiment_is_what_its_lock_says() -> None:
    """As one would who edits the question of a lock, its protocol, and both digests."""
    words = ["trainer.num_steps=30", "seed=0,1"]
    said = protocol_of(["experiment=activation", *words], config_path())
    assert said is not None
    assert said["seeds"] == [0, 1]
    sweep = {"overrides": words}
    lock = {"experiment": "activation", "protocol": {"content": said}, "sweep": sweep}
    assert edited_since(lock) is None
    forged = {**lock, "protocol": {"content": {**said, "expectation": "GELU wins"}}}
    found = edited_since(forged)
    assert isinstance(found, Difference)
    assert found.verdict.endswith(
        "activation.yaml is not what the lock says, in protocol.expectation"
    )
    assert edited_since({**lock, "sweep": {"overrides": ["model=none"]}}) is not None
    assert edited_since({**forged, "experiment": "somebody's own"}) is None


@pytest.mark.soak
def test_every_experiment_is_recounted_by_the_oldest_scipy(tmp_path: Path) -> None:
    required = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'"scipy>=([\d.]+)"', required)
    pip = [sys.executable, "-m", "pip", "-q", "install", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, f"scipy=={oldest}"], check=True)
    env = environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    ask = [sys.executable, "-c", "import scipy; print(scipy.__version__)"]
    said = subprocess.run(ask, env=env, capture_output=True, text=True, check=True).stdout
    assert said.startswith(oldest)
    check = [sys.executable, ".ci/experiments.py", "--all"]
    done = subprocess.run(
        check, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "by other code" not in done.stdout
