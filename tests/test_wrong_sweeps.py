"""Sweeps with jobs that cannot be, sweeps that are none, and faults of the program."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from microgpt.sweep.machine import memory_limit
from microgpt.terminal import ConfigError
from tests.command import OFFLINE, TINY, Within, command, files, refused, spelt


@pytest.mark.slow
def test_what_makes_no_sense_is_refused_once_and_fails_no_sweep(place: Path) -> None:
    words = ["train", *TINY, *OFFLINE, "-m", "trainer.checkpoint_every=0"]
    ended = command([*words, "model.n_head=1,3"], place)
    assert ended.code == 0, ended
    assert ended.err == "microgpt: n_head=3 refused: model.n_head=3: must divide n_embd=4\n"
    assert "2 jobs: 1 finished, 1 refused" in ended.out
    (listed,) = json.loads(command(["sweeps", "--json"], place).out)
    assert [listed[key] for key in ("finished", "failed", "refused")] == [1, 0, 1]
    again = command([*words, "model.n_head=1,3"], place)
    assert (again.code, again.err) == (0, ended.err)
    assert "2 jobs: 1 finished before, skipped, 1 refused before, skipped" in again.out
    none = command([*words, "model/init=mup", "optimizer=sgd,muon"], place)
    assert none.code == 2, none  # not one job can be built: the command is wrong
    assert none.err.startswith("microgpt: model.init='MuP': its rates are for adam")


def test_a_sweep_that_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refused whole, before its first job."""
    within = Within(monkeypatch, capfd)
    refused(within(*spelt("-m seed=1,2 resume=there")), ["resume=there", "without -m"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.zip=[seed,optimizer.lr]")), ["optimizer.lr"])
    refused(within(*spelt("-m seed=interval(1,2)")), ["seed=interval(1,2)", "range"])
    refused(within(*spelt("-m seed=1,2 model.n_heads=2")), ["model.n_heads=2", "n_head"])
    refused(within(*spelt("-m seed=1,2 hydra.launcher.workers=0")), ["workers=0", ">= 1"])
    refused(within(*spelt("-m seed=1,2 hydra.launcher.memory_limit=lots")), ["lots", "2GB"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.zip=5")), ["hydra.sweeper.zip=5", "list"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.arms=[1]")), ["hydra.sweeper.arms=[1]"])
    assert files(place / "outputs") == []


def test_an_experiment_without_m_says_that_it_trains_one_run(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [a + b for a in "abcdefghij" for b in "abcdefghij"]
    (place / "names.txt").write_text("\n".join(names))
    words = "experiment=heads data.path=names.txt engine=vector trainer.num_steps=2"
    ended = Within(monkeypatch, capfd)(*spelt(words))
    assert ended.code == 0, ended
    assert ended.err == "microgpt: experiment=heads: this trains one run; add -m for its sweep\n"


@pytest.mark.parametrize("limit", [None, True, "", "-1", "1e400", [1], math.inf, math.nan])
def test_a_limit_of_memory_that_is_none(limit: Any) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.memory_limit=.*: must be a size"):
        memory_limit(limit, 2)


FAULTY = """
from microgpt.core.schedule.constant import Constant
from microgpt.datasets.sources import Names

class Late(Constant):
    def decay(self, progress):
        raise ValueError("a fault of the program")

class Early(Constant):
    def __init__(self, **settings):
        raise ValueError("a fault of the program")

class Wrong(Constant):
    def __init__(self, **settings):
        raise TypeError("a fault of the program")

class Unread(Names):
    def documents(self):
        raise TypeError("a fault of the program")
"""


@pytest.mark.parametrize(
    "target", ["schedule:Late", "schedule:Early", "schedule:Wrong", "data:Unread"]
)
def test_a_fault_of_the_program_says_where(
    target: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(place)
    group, _, name = target.partition(":")
    words = f"schedule=constant {group}._target_=faulty.{name}"
    ended = Within(monkeypatch, capfd)(*spelt(words))
    assert ended.code == 1, ended
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert 'faulty.py", line ' in ended.err
    assert ended.err.endswith("Error: a fault of the program\n")
