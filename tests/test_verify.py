"""A run trained again is what the store says, or the first thing that is not is named."""

import json
import math
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from microgpt.ablation.reproduce.replay import ulps
from microgpt.run.checkpoint import read_checkpoint, write_checkpoint
from microgpt.run.folder import RunFolder
from tests.conftest import Here, Verify
from tests.running import (
    SHORT,
    replace,
    train_here,
)


@pytest.fixture(scope="module")
def tracked(
    store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunFolder]:
    """The outputs with one finished run, which a test may change with `edited` alone."""
    outputs = tmp_path_factory.mktemp("tracked")
    shutil.copy(store_template, outputs / "mlflow.db")
    code, run = train_here(outputs, *SHORT)
    assert code == 0
    return outputs, run


@pytest.fixture
def edited(tracked: tuple[Path, RunFolder]) -> Iterator[tuple[Path, RunFolder, Path]]:
    """The outputs, the run, and its artifacts, which are put back after the test."""
    outputs, run = tracked
    kept = outputs.with_name(f"{outputs.name}-kept")
    shutil.copytree(outputs, kept)
    yield outputs, run, outputs / "artifacts/microgpt" / run.mlflow_run_id / "artifacts"
    for name in ("artifacts", "runs"):
        shutil.rmtree(outputs / name, ignore_errors=True)
        shutil.copytree(kept / name, outputs / name)
    # Not as a file, which MLflow holds open: it would go on with pages that it has read.
    with sqlite3.connect(kept / "mlflow.db") as old, sqlite3.connect(outputs / "mlflow.db") as new:
        old.backup(new)
    old.close()
    new.close()
    shutil.rmtree(kept)


def execute(outputs: Path, statement: str, *values: object) -> None:
    """Change the store's database by hand."""
    with sqlite3.connect(outputs / "mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def test_samples_are_drawn_from_the_store_alone(
    tracked: tuple[Path, RunFolder], tmp_path: Path, here: Here
) -> None:
    outputs, run = tracked
    words = ["sample", run.path.name, "--seed", "1", "-n", "3"]
    said, complained = here(outputs, *words)
    assert (len(said.splitlines()), complained) == (3, "")
    uri = f"sqlite:///{outputs}/mlflow.db"  # on a machine without the folder
    assert here(tmp_path / "nothing", *words, "--uri", uri) == (said, "")
    _, complained = here(tmp_path / "nothing", *words, code=2)
    assert "no such run or folder" in complained


def test_the_answer_for_programs(tracked: tuple[Path, RunFolder], here: Here) -> None:
    outputs, run = tracked
    said, told = here(outputs, "verify", run.path.name, "--json")
    assert json.loads(said) == {"what": run.path.name, "answer": "bit-exact"}
    assert "bit-exact: " in told  # for people


def stored_value(outputs: Path, name: str, step: int) -> float:
    with sqlite3.connect(outputs / "mlflow.db") as database:
        query = "select value from metrics where key = ? and step = ?"
        (value,) = database.execute(query, (name, step)).fetchone()
    database.close()
    return float(value)


def test_a_run_is_bit_exact_by_each_of_its_names(
    tracked: tuple[Path, RunFolder], verify: Verify
) -> None:
    outputs, run = tracked
    for name in (run.mlflow_run_id, run.mlflow_run_id[:6], "here", run.path):
        code, said = verify(outputs, name)
        assert code == 0, said
        digest = run.info["parameters_sha256"][:12]
        assert f"bit-exact: 12 steps, 40 figures, 3 samples, parameters {digest}\n" in said
        assert "changed" not in said


def test_the_store_alone_is_enough(
    edited: tuple[Path, RunFolder, Path], verify: Verify, tmp_path: Path
) -> None:
    outputs, run, _ = edited
    name = run.mlflow_run_id
    shutil.rmtree(outputs / "runs")
    code, said = verify(tmp_path / "elsewhere", name, f"--uri=sqlite:///{outputs}/mlflow.db")
    assert (code, "bit-exact" in said) == (0, True), said


def test_nothing_stays_of_a_verification(tracked: tuple[Path, RunFolder], verify: Verify) -> None:
    outputs, run = tracked
    before = {file: file.stat().st_mtime_ns for file in outputs.rglob("*") if file.is_file()}
    before = {file: time for file, time in before.items() if not file.name.endswith(".lock")}
    verify(outputs, run.mlflow_run_id)
    assert {file for file in outputs.rglob("*") if file.is_file()} >= before.keys()
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())


def test_a_figure_changed_in_the_database(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, _ = edited
    right = stored_value(outputs, "train/loss", 7)
    wrong = math.nextafter(right, math.inf)
    execute(outputs, "update metrics set value = ? where key = 'train/loss' and step = 7", wrong)
    code, said = verify(outputs, run.mlflow_run_id)
    assert code == 1
    assert "diverged at step 7 in train/loss, by 1 ulp\n" in said
    told = f"metrics.jsonl {right!r}; the store's metrics {wrong!r}; trained again {right!r}"
    assert told in said
    assert "source, packages and Python are unchanged" in said


def test_a_last_figure_changed_in_both_tables(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, _ = edited
    for table in ("metrics", "latest_metrics"):
        execute(outputs, f"update {table} set value = 2.0 where key = 'val/loss' and step = 12")
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged at step 12 in val/loss, by " in said) == (1, True), said


def test_a_last_figure_changed_in_the_table_that_the_ui_shows(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, _ = edited
    execute(outputs, "update latest_metrics set value = 2.0 where key = 'val/loss'")
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged in the last val/loss of the store\n" in said) == (1, True), said


@pytest.mark.parametrize(
    "statement",
    [
        "delete from metrics where key = 'lr' and step = 4",
        "delete from latest_metrics where key = 'grad_norm'",
        "update metrics set step = 13 where key = 'lr' and step = 12",
        "insert into metrics select key, 0.5, 1, run_uuid, step, is_nan from metrics "
        "where key = 'lr' and step = 3",
        "update metrics set key = 'train/lost' where key = 'train/loss' and step = 2",
    ],
)
def test_figures_that_come_and_go(
    edited: tuple[Path, RunFolder, Path], verify: Verify, statement: str
) -> None:
    outputs, run, _ = edited
    execute(outputs, statement)
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged " in said) == (1, True), said


def test_a_figure_changed_in_the_file(edited: tuple[Path, RunFolder, Path], verify: Verify) -> None:
    outputs, run, artifacts = edited
    rows = [json.loads(line) for line in (artifacts / "metrics.jsonl").read_text().splitlines()]
    rows[4]["grad_norm"] = math.nextafter(rows[4]["grad_norm"], 0)
    (artifacts / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged at step 5 in grad_norm, by 1 ulp\n" in said) == (1, True), said


def test_a_sample_changed(edited: tuple[Path, RunFolder, Path], verify: Verify) -> None:
    outputs, run, artifacts = edited
    first, second, third = (artifacts / "samples.txt").read_text().splitlines()
    (artifacts / "samples.txt").write_text(f"{first}\n{second}x\n{third}\n")
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged in sample 2\n" in said) == (1, True), said
    assert f"the record says {second + 'x'!r}; trained again {second!r}" in said
    (artifacts / "samples.txt").write_text(f"{first}\n{second}\n")
    assert "diverged in the samples\n" in verify(outputs, run.mlflow_run_id)[1]


def test_a_checkpoint_changed(edited: tuple[Path, RunFolder, Path], verify: Verify) -> None:
    outputs, run, artifacts = edited
    file = artifacts / "checkpoints/step-5.safetensors"
    content = bytearray(file.read_bytes())
    content[-30_000] ^= 1
    file.write_bytes(content)
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "the store's step-5.safetensors is damaged\n" in said) == (1, True), said
    assert "it is damaged: its content is not that of its sha256\n" in said
    assert "may have been edited" not in said
    state = read_checkpoint(run.checkpoints()[-1])
    state.weights["wte"][0] += 1.0
    write_checkpoint(file, state, run.info["signature"])  # with the digest of what it holds now
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged at step 5 in step-5.safetensors\n" in said) == (1, True), said


def test_the_parameters_digest_changed(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, artifacts = edited
    right, wrong = run.info["parameters_sha256"], "0" * 64
    execute(outputs, "update tags set value = ? where key = 'parameters_sha256'", wrong)
    code, said = verify(outputs, run.mlflow_run_id)
    assert code == 1
    assert f"parameters_sha256: the store's tag says {wrong}, run.json {right}" in said
    replace(artifacts / "run.json", right, wrong)
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "diverged in the parameters\n" in said) == (1, True), said


def test_a_record_that_contradicts_itself(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, artifacts = edited
    execute(outputs, "update params set value = '4' where key = 'model.n_head'")
    code, said = verify(outputs, run.mlflow_run_id)
    assert code == 1
    assert "param model.n_head: the store says 4, config.yaml 2" in said
    execute(outputs, "update params set value = '2' where key = 'model.n_head'")
    replace(artifacts / "config.yaml", "temperature: 0.5", "temperature: 0.25")
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "config.yaml has signature " in said) == (1, True), said


def test_a_file_that_is_gone(edited: tuple[Path, RunFolder, Path], verify: Verify) -> None:
    outputs, run, artifacts = edited
    (artifacts / "config.yaml").unlink()
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, len(said.splitlines())) == (2, 1)
    assert "has no config.yaml of it" in said


def test_what_cannot_be_verified_is_one_line(
    edited: tuple[Path, RunFolder, Path], verify: Verify, tmp_path: Path
) -> None:
    outputs, run, _ = edited
    for words, problem in [
        (("nothing",), "nothing: no such run in sqlite:///"),
        (("it's",), "it's: no id of a run"),
        (("here", "--uri=sqlite:////nowhere/mlflow.db"), "no store there"),
        (("here", "--uri=nowhere"), "must be http://SERVER"),
    ]:
        code, said = verify(outputs, *words)
        assert (code, len(said.splitlines()), problem in said) == (2, 1, True), said
    assert not list(tmp_path.iterdir())
    execute(outputs, "update runs set status = 'RUNNING'")
    code, said = verify(outputs, run.mlflow_run_id)
    assert (code, "is still running" in said) == (2, True)


def test_stretches_between_checkpoints(tracked: tuple[Path, RunFolder], verify: Verify) -> None:
    outputs, run = tracked
    code, said = verify(outputs, run.path, "--segments", "9")
    assert code == 0, said
    assert "bit-exact: 3 of 3 stretches between checkpoints, steps 0-5, 5-10, 10-12\n" in said
    code, said = verify(outputs, run.path, "--segments", "1", "--seed", "1")
    assert code == 0, said
    assert "bit-exact: 1 of 3 stretches between checkpoints, steps " in said
    assert "(--seed 1 draws the same)" in said
    assert verify(outputs, run.path, "--segments", "0")[0] == 2


def test_a_stretch_that_is_not_as_recorded(
    edited: tuple[Path, RunFolder, Path], verify: Verify
) -> None:
    outputs, run, artifacts = edited
    file = artifacts / "checkpoints/step-10.safetensors"
    state = read_checkpoint(file)
    state.weights["wte"][3] = math.nextafter(state.weights["wte"][3], 9)
    write_checkpoint(file, state)
    drawn = {
        0: (1, "diverged at step 10 in step-10.safetensors\n  other weights\n"),  # 5-10
        1: (0, "bit-exact: 1 of 3 stretches between checkpoints, steps 0-5 (--seed 1 draws"),
        5: (1, "diverged at step 12 in step-12.safetensors\n  other weights\n"),  # 10-12
    }
    for seed, (code, line) in drawn.items():
        found, said = verify(outputs, run.path, "--segments", "1", "--seed", str(seed))
        assert (found, line in said) == (code, True), said


def test_how_far_two_figures_are_apart() -> None:
    assert ulps(1.0, math.nextafter(1.0, 2)) == 1
    assert ulps(-5e-324, 5e-324) == 2
    assert ulps(0.0, -0.0) == 0
    assert ulps(math.nan, 1.0) is None
