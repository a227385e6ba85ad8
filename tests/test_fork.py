"""A run branched off another: the same to the bit up to its step, and named after its parent."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.fork import fork
from microgpt.ablation.reproduce.verify import verify_run
from microgpt.core.check import BadValue
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FINISHED, KILLED
from microgpt.terminal import ConfigError
from tests.command import Within
from tests.running import (
    REPOSITORY,
    figures,
    has_reached,
    kill,
    resume_here,
    start,
    store,
    train_here,
    wait_until,
)

STEPS = ["trainer.num_steps=12", "trainer.checkpoint_every=5"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    """A finished run that no store knows."""
    outputs = tmp_path_factory.mktemp("parent")
    return outputs, train_here(outputs, *STEPS, "tracking=none", name="parent")[1]


def forked(outputs: Path, reference: object, step: int, *words: str, code: int = 0) -> RunFolder:
    """The run that a fork makes."""
    before = {run.path for run in all_runs(outputs)}
    assert fork(str(reference), step, words, None, outputs) == code
    (new,) = [run for run in all_runs(outputs) if run.path not in before]
    return new


def rows_to(run: RunFolder, step: int) -> list[dict[str, float]]:
    return [row for row in run.metrics() if row["step"] <= step]


@pytest.mark.parametrize("step", [0, 3, 5, 7, 10, 11, 12])
def test_without_a_change_it_is_its_parent(parent: tuple[Path, RunFolder], step: int) -> None:
    outputs, run = parent
    new = forked(outputs, run.path, step)
    assert figures(new) == figures(run)
    assert rows_to(new, step) == rows_to(run, step)  # clocks and all: they are the parent's
    assert (new.path / f"checkpoints/step-{step}.safetensors").exists()


@pytest.mark.parametrize("words", [["engine=numpy"], ["streams=single"], ["schedule=cosine"]])
def test_so_it_is_with_other_parts(tmp_path: Path, words: Sequence[str]) -> None:
    _, run = train_here(tmp_path, *STEPS, *words, "tracking=none")
    assert figures(forked(tmp_path, run.path, 7)) == figures(run)


def test_a_change_shows_after_its_step(parent: tuple[Path, RunFolder]) -> None:
    outputs, run = parent
    new = forked(outputs, "parent", 7, "optimizer.lr=0.1", "schedule=constant")
    before, info = run.info, new.info
    assert rows_to(new, 7) == rows_to(run, 7)
    assert [row["lr"] for row in new.metrics()[7:]] == [0.1] * 5
    assert new.metrics()[8]["train/loss"] != run.metrics()[8]["train/loss"]
    assert info["status"] == FINISHED
    assert info["name"].endswith(" from step 7 lr=0.1 schedule=constant")
    origin = {key: info["fork"][key] for key in ("run", "signature", "step", "overrides")}
    assert origin == {
        "run": "parent",
        "signature": before["signature"],
        "step": 7,
        "overrides": "optimizer.lr=0.1 schedule=constant",
    }
    assert (new.config["optimizer"]["lr"], run.config["optimizer"]["lr"]) == (0.1, 0.01)


def test_the_signature_names_parent_and_step(parent: tuple[Path, RunFolder]) -> None:
    outputs, run = parent
    forks = [forked(outputs, run.path, step, "optimizer.lr=0.1") for step in (5, 6, 6)]
    signatures = [new.info["signature"] for new in forks]
    assert len({*signatures, run.info["signature"]}) == 3
    assert signatures[1] == signatures[2]
    again = forked(outputs, forks[0].path, 8)
    assert again.info["signature"] == signatures[0]
    assert figures(again) == figures(forks[0])


def test_the_store_names_the_parent_and_its_curve_is_whole(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = train_here(outputs, *STEPS)
    new = forked(outputs, run.mlflow_run_id, 7, "seed=3", "schedule=cosine")
    there = store(outputs).get_run(new.mlflow_run_id)
    tags = {key: there.data.tags[f"fork.{key}"] for key in ("run", "mlflow", "step", "overrides")}
    assert tags == {
        "run": "here",
        "mlflow": run.mlflow_run_id,
        "step": "7",
        "overrides": "seed=3 schedule=cosine",
    }
    history = store(outputs).get_metric_history(new.mlflow_run_id, "train/loss")
    assert sorted(m.step for m in history) == list(range(1, 13))  # the store sorts by time
    assert verify_run(new.mlflow_run_id, None, outputs, None) == 0
    assert "changed" not in capsys.readouterr().out


def test_a_fork_of_a_run_that_only_the_store_has(outputs: Path, tmp_path: Path) -> None:
    data = tmp_path / "mine.txt"
    data.write_text("anna\nbert\ncarla\ndora\nemil\n" * 5)
    words = [*STEPS, f"data.path={data}", "trainer.eval_documents=0"]
    _, run = train_here(outputs, *words)
    right, run_id = figures(run), run.mlflow_run_id
    shutil.rmtree(run.path)
    data.unlink()
    new = forked(outputs, run_id[:8], 7)
    assert figures(new) == right
    assert new.info["data"]["name"] == "mine"
    assert new.info["fork"]["mlflow"] == run_id
    stopped = forked(outputs, run_id, 7, "trainer.stop_after=9")
    resume_here(outputs, stopped.path, "trainer.stop_after=null")  # finds its data
    assert stopped.info["status"] == FINISHED
    assert figures(stopped)["rows"] == right["rows"]


def test_a_fork_is_verified_by_its_own_start(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = train_here(outputs, *STEPS)
    new = forked(outputs, run.path, 7, "optimizer.lr=0.1")
    artifacts = outputs / "artifacts/microgpt" / new.mlflow_run_id / "artifacts"
    rows = [json.loads(line) for line in (artifacts / "metrics.jsonl").read_text().splitlines()]
    right = (artifacts / "metrics.jsonl").read_text()
    rows[2]["train/loss"] = math.nextafter(rows[2]["train/loss"], 0)  # of the parent's steps
    (artifacts / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verify_run(new.mlflow_run_id, None, outputs, None) == 1
    assert "diverged at step 3 in train/loss, by 1 ulp" in capsys.readouterr().out
    (artifacts / "metrics.jsonl").write_text(right)
    store(outputs).delete_run(run.mlflow_run_id)
    assert verify_run(new.mlflow_run_id, None, outputs, None) == 0
    assert "steps up to 7 are not verified" in capsys.readouterr().err
    (artifacts / "checkpoints/step-7.safetensors").unlink()
    assert verify_run(new.mlflow_run_id, None, outputs, None) == 2
    assert "the store has no step-7.safetensors" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_fork_is_resumed(tmp_path: Path) -> None:
    words = [*STEPS, "tracking=none", "trainer.num_steps=600", "trainer.log_every=2"]
    _, run = train_here(tmp_path / "parent", *words, "trainer.checkpoint_every=50")
    change = ["optimizer.lr=0.02"]
    whole = forked(tmp_path / "whole", run.path, 70, *change)
    outputs = tmp_path / "killed"
    process = start(outputs, "fork", str(run.path), "--at-step", "70", *change)
    wait_until(lambda: has_reached(outputs, 200))
    kill(process)
    (new,) = all_runs(outputs)
    assert new.status == KILLED
    resume_here(outputs, new.path.name)
    assert figures(new) == figures(whole)
    assert new.info["fork"] == whole.info["fork"]


REFUSED: list[tuple[list[str], str]] = [
    (["model.n_embd=16"], "model: wte would be "),
    (["model.n_layer=2"], "but is nothing in the state"),
    (["model.block_size=4"], "model: wpe would be [4][8] (embedding), but is [9][8] (embedding)"),
    (["optimizer=sgd"], "optimizer: keeps m for each weight, but the state has m, v"),
    (["streams=single"], "streams: the state has no generator for all"),
    (
        ["data=lines", f"data.path={REPOSITORY / 'LICENSE'}"],
        "data: has other characters than the run's",
    ),
    (["trainer.num_steps=6"], "trainer.num_steps=6: must be at least 7"),
    (["trainer.stop_after=6"], "trainer.stop_after=6: must be at least 7"),
    (["schedule=cosin"], "schedule=cosin: no such option; there are constant, cosine"),
    (["model.n_heads=2"], "model.n_heads=2: no such key; model has "),
    (["optimizer.lr=x"], "optimizer.lr='x': must be a number"),
    (["optimizer.lr=1,2"], "optimizer.lr=1,2: must be key=value or group=option"),
    (["+foo=1"], "+foo=1: must be key=value or group=option"),
    (["resume=x"], "resume=x: a fork keeps its parent's resume"),
    (["sweep=x"], "sweep=x: a fork keeps its parent's sweep"),
    (["lr"], "lr: cannot be read; write key=value"),
]


@pytest.mark.parametrize(("words", "problem"), REFUSED, ids=lambda x: str(x)[:30])
def test_what_the_state_does_not_fit(
    parent: tuple[Path, RunFolder], words: list[str], problem: str
) -> None:
    outputs, run = parent
    before = sorted(outputs.rglob("*"))
    with pytest.raises(ConfigError) as told:
        fork(str(run.path), 7, words, None, outputs)
    assert problem in str(told.value)
    assert "\n" not in str(told.value)
    assert sorted(outputs.rglob("*")) == before


def test_other_data_with_the_same_characters(
    parent: tuple[Path, RunFolder], tmp_path: Path
) -> None:
    outputs, run = parent
    characters = run.info["data"]["vocabulary"]
    (tmp_path / "other.txt").write_text(f"{characters}\n{characters[::-1]}\n" * 9)
    new = forked(outputs, run.path, 7, f"data.path={tmp_path / 'other.txt'}")
    assert new.info["data"]["name"] == "other"
    assert new.info["signature"] != run.info["signature"]


def test_steps_that_are_not_there(parent: tuple[Path, RunFolder]) -> None:
    outputs, run = parent
    for step in (-1, 13):
        with pytest.raises(BadValue, match="must be a step of the run, from 0 to 12"):
            fork(str(run.path), step, [], None, outputs)
    new = forked(outputs, run.path, 7, "optimizer.lr=0.1")
    with pytest.raises(BadValue, match="branched off later, at 7; fork its parent parent"):
        fork(str(new.path), 6, [], None, outputs)


def test_a_parent_that_is_another_when_trained_again(tmp_path: Path) -> None:
    _, run = train_here(tmp_path, *STEPS, "tracking=none")
    text = run.metrics_path.read_text()
    loss: Any = run.metrics()[6]["train/loss"]
    run.metrics_path.write_text(text.replace(repr(loss), repr(math.nextafter(loss, 0))))
    with pytest.raises(ConfigError) as told:
        fork(str(run.path), 8, [], None, tmp_path)
    assert "at step 7 in train/loss, by 1 ulp, unlike its record; " in str(told.value)
    assert str(told.value).endswith("there are checkpoints at 5, 10, 12")
    assert fork(str(run.path), 10, [], None, tmp_path) == 0


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    train_here(tmp_path, *STEPS, "tracking=none")
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path))
    command = Within(monkeypatch, capfd)
    ended = command("fork", "here", "--at-step", "7", "optimizer.lr=0.1", "progress=true")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0] == "the parent's steps 6 to 7 are trained again"
    assert lines[1].endswith("branches off here after step 7")
    for words in (["here"], ["here", "--at-step", "x"], ["nothing", "--at-step", "7"]):
        ended = command("fork", *words)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err
