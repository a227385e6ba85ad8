"""Run folders in a real store: all that is there, once, whatever the store does."""

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from microgpt.core.events import Stepped
from microgpt.run.folder import RunFolder
from microgpt.run.record import FAILED, FINISHED, RUNNING
from microgpt.tracking import comparable, params_of, sync
from microgpt.tracking.store import LONGEST
from tests.running import (
    REPOSITORY,
    SHORT,
    SLOWLY,
    TINY,
    artifacts,
    has_reached,
    history,
    kill,
    only_run,
    project_here,
    recorded,
    rows_of,
    start,
    store,
    stored,
    train_here,
    untracked,
    wait_until,
)


@pytest.fixture(scope="module")
def tracked(
    store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunFolder]:
    """The outputs with one finished run, which nobody may change."""
    outputs = tmp_path_factory.mktemp("tracked")
    shutil.copy(store_template, outputs / "mlflow.db")
    code, run = train_here(outputs, *SHORT, "description=Why")
    assert code == 0
    return outputs, run


def test_params_are_what_the_run_depends_on(tracked: tuple[Path, RunFolder]) -> None:
    params = stored(tracked[0])[0].data.params
    assert params["model.n_embd"] == "8"
    assert params["optimizer"] == "Adam"
    assert params["optimizer.lr"] == "0.01"
    assert params["model.norm"] == "RMSNorm"
    assert params["trainer.num_steps"] == "12"
    assert params["seed"] == "42"
    gone = {"data.path", "progress", "resume", "tracking", "paths.outputs", "trainer.stop_after"}
    assert not gone & params.keys()
    assert not [key for key in params if key.startswith("tracking") or "_target_" in key]


def test_params_are_what_people_compare(tracked: tuple[Path, RunFolder]) -> None:
    """Neutral and null values are left out, but for what a sweep varies; old and new runs compare."""
    params, config = stored(tracked[0])[0].data.params, tracked[1].config
    usual = {
        "model.bias",
        "model.block",
        "trainer.accumulate",
        "trainer.clip_norm",
        "sampling.top_k",
    }
    assert not usual & params.keys()
    assert params["engine"] == "VectorEngine"
    assert params_of(config) == params
    swept = params_of(config, {"bias": "false", "block": "pre_norm"})
    assert swept == params | {"model.bias": "False", "model.block": "PreNorm"}
    whole = params | {"model.bias": "False", "trainer.clip_norm": "None", "sampling.top_k": "0"}
    first, second = comparable([whole, params])  # of an earlier version, and of this one
    assert first == second == params
    assert comparable([whole, whole]) == [whole, whole]
    first, second = comparable([params, params | {"model.bias": "True"}])
    assert (first.get("model.bias"), second["model.bias"]) == (None, "True")


def test_tags_say_what_the_run_is(tracked: tuple[Path, RunFolder]) -> None:
    outputs, run = tracked
    (there,) = stored(outputs)
    tags, info = there.data.tags, run.info
    for key in ("signature", "source", "parameters_sha256"):
        assert tags[key] == info[key]
    assert tags["n_params"] == str(info["n_params"])
    fingerprint = {f"fingerprint.{key}" for key in ("python", "machine", "engine")}
    assert {key for key in tags if key.startswith("fingerprint.")} == fingerprint
    assert (tags["data.name"], tags["data.documents"]) == ("names_tiny", "64")
    assert tags["data.digest"] == info["data"]["digest"]
    assert tags["git.commit"] == tags["mlflow.source.git.commit"]
    assert tags["git.dirty"] in ("true", "false")
    assert tags["mlflow.note.content"] == "Why"
    assert tags["mlflow.source.name"] == "microgpt train"
    assert tags["mlflow.user"]
    assert there.info.run_name == info["name"]
    assert "num_steps=12" in info["name"]
    assert "outputs" not in info["name"]


def test_metrics_are_those_of_the_folder(tracked: tuple[Path, RunFolder]) -> None:
    outputs, run = tracked
    (there,) = stored(outputs)
    assert history(store(outputs), there.info.run_id) == recorded(run)
    assert there.info.status == "FINISHED"
    assert there.info.start_time == round(run.info["begun"] * 1000)
    assert there.info.end_time == round(run.info["ended"] * 1000)


def test_the_data_are_inputs(tracked: tuple[Path, RunFolder]) -> None:
    """The whole, and its part for validation; there is none for the test."""
    outputs, run = tracked
    data = run.info["data"]
    uses = {use.tags[0].value: use for use in stored(outputs)[0].inputs.dataset_inputs}
    assert {tag.key for use in uses.values() for tag in use.tags} == {"mlflow.data.context"}
    names = {context: use.dataset.name for context, use in uses.items()}
    assert names == {"training": "names_tiny", "validation": "names_tiny validation"}
    whole, part = uses["training"].dataset, uses["validation"].dataset
    assert data["digest"].startswith(whole.digest)
    assert json.loads(whole.profile)["documents"] == 64
    assert json.loads(part.profile) == {"documents": data["val_documents"]}
    assert part.digest != whole.digest


def test_artifacts_are_the_files_of_the_folder(tracked: tuple[Path, RunFolder]) -> None:
    outputs, run = tracked
    (there,) = stored(outputs)
    place = outputs / "artifacts/microgpt" / there.info.run_id / "artifacts"
    assert there.info.artifact_uri == place.as_uri()
    found = {file.relative_to(place): file.read_bytes() for file in place.rglob("*.*")}
    assert found == {file.relative_to(run.path): file.read_bytes() for file in run.files()}
    assert Path("documents.txt") in found
    assert Path("checkpoints/step-12.safetensors") in found


def test_sync_doubles_nothing(outputs: Path) -> None:
    run = untracked(outputs)
    assert [*map(str, sync([run], None, outputs))] == [
        f"here  finished  MLflow {run.mlflow_run_id}"
    ]
    rows, files = rows_of(outputs), artifacts(outputs)
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    assert [*map(str, sync([run], None, outputs))] == [
        f"here  finished  MLflow {run.mlflow_run_id}"
    ]
    assert rows_of(outputs) == rows
    assert artifacts(outputs) == files


def test_figures_arrive_while_the_run_goes_on(outputs: Path) -> None:
    run = untracked(outputs)
    with run.locked():
        run.update(status=RUNNING, ended=None)
        projection = project_here(run, outputs)
        for step in (13, 14):
            run(Stepped(step, 0.5, 1, {"train/loss": 0.5, "cost/seconds": 1.0}))
            with run.metrics_path.open("a") as file:
                file.write('{"step": 15')  # being written
            projection.update()
            run.rewind(step)
            assert history(store(outputs), projection.run_id) == recorded(run)
        (there,) = stored(outputs)
        assert (there.info.status, there.info.end_time) == ("RUNNING", None)
    run.update(status=FINISHED, ended=time.time())
    projection.update()
    assert stored(outputs)[0].info.status == "FINISHED"


def test_a_run_that_diverges(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wild = ["optimizer=sgd", "optimizer.lr=1e6", "model/norm=none", "trainer.eval_every=0"]
    code, run = train_here(outputs, *wild, "trainer.num_steps=50")
    assert code == 1
    assert run.status == FAILED
    step = run.info["failed_at"]
    _, err = capfd.readouterr()
    assert err.startswith(f"microgpt: run here failed at step {step}: train/loss is ")
    last = run.metrics()[-1]
    assert last["step"] == step
    assert not math.isfinite(last["train/loss"])
    (there,) = stored(outputs)
    assert there.info.status == "FAILED"
    assert there.data.tags["failed_at"] == str(step)
    assert there.data.tags["reason"].startswith("train/loss is ")
    expected = {name: finite(points) for name, points in recorded(run).items()}
    found = {n: finite(points) for n, points in history(store(outputs), there.info.run_id).items()}
    assert found == expected
    with sqlite3.connect(outputs / "mlflow.db") as database:
        query = "select count(*) from metrics where abs(value) > 1e300"
        assert database.execute(query).fetchone() == (0,)


def finite(points: list[tuple[int, float]]) -> list[tuple[int, float | None]]:
    """Points with None for what is not finite: nan does not equal nan."""
    return [(step, value if math.isfinite(value) else None) for step, value in points]


def test_a_run_that_diverged_stands_below_those_that_finished(outputs: Path) -> None:
    good = untracked(outputs)
    bad = untracked(outputs, "seed=1", name="bad")
    bad(Stepped(13, 0.1, 1, {"train/loss": 0.1, "val/loss": 0.1, "val/bpc": 0.1}))
    bad(Stepped(14, math.inf, 1, {"train/loss": math.inf}))
    bad.update(status=FAILED, failed_at=14, reason="train/loss is inf")
    for run in (bad, good):
        project_here(run, outputs)
    client = store(outputs)
    homes = [each.info.experiment_id for each in stored(outputs)[:1]]
    for name in ("val/loss", "train/loss"):
        table = client.search_runs(homes, order_by=[f"metrics.`{name}` ASC"])
        assert [each.info.status for each in table] == ["FINISHED", "FAILED"]


def test_a_run_that_breaks_off(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("microgpt.run.folder.write_checkpoint", full)
    assert train_here(outputs, *SHORT)[0] == 1
    tags = stored(outputs)[0].data.tags
    assert stored(outputs)[0].info.status == "FAILED"
    assert (tags["failed_at"], tags["reason"]) == ("5", "OSError: disk full")


def test_a_killed_run_is_shown_as_failed_until_it_goes_on(outputs: Path) -> None:
    process = start(outputs, "train", *TINY, *SLOWLY, "trainer.num_steps=4000", "tracking=none")
    wait_until(lambda: has_reached(outputs, 1))
    kill(process)
    run = only_run(outputs)
    project_here(run, outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FAILED"
    assert there.data.tags["reason"] == "its process was killed"
    assert [*map(str, sync([run], None, outputs))] == [
        f"{run.path.name}  killed  MLflow {run.mlflow_run_id}"
    ]
    with run.locked():
        project_here(run, outputs)
        (there,) = stored(outputs)
        assert there.info.status == "RUNNING"
        assert "reason" not in there.data.tags


def test_more_steps_than_a_call_takes(outputs: Path) -> None:
    run = untracked(outputs)
    for step in range(13, 3000):
        run(Stepped(step, 0.0, 0, {"train/loss": 1 / step, "lr": 0.1, "cost/seconds": step / 10}))
    project_here(run, outputs)
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_long_values_are_cut(outputs: Path) -> None:
    run = untracked(outputs, "description=" + "long" * 3000)
    config = run.config
    config["model"]["notes"] = "x" * 7000
    run.set_config(config)
    swept = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    run.update(swept={"words": swept})
    project_here(run, outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert there.data.params["model.notes"] == "x" * (LONGEST - 1) + "…"
    assert there.data.tags["mlflow.note.content"] == ("long" * 3000)[: LONGEST - 1] + "…"
    assert there.data.tags["words"] == swept[: LONGEST - 1] + "…"


def test_a_run_in_a_thread(outputs: Path) -> None:
    """As a worker of a sweep has it: without signals."""
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(train_here(outputs, "tracking=none", *SHORT)[0]))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(
    "words",
    [["train", "--help"], ["runs"], ["train", *TINY, "--cfg", "job"], ["train", *TINY, *SHORT]],
)
def test_mlflow_is_not_imported_for_nothing(words: list[str], tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from microgpt.cli import main;"
        "atexit.register(lambda: print('mlflow' in sys.modules, file=sys.stderr)); main()"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "MICROGPT_OUTPUTS": str(tmp_path)}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"


@pytest.mark.parametrize("gone", ["rows", "files", "checkpoints", "tags", "params"])
def test_sync_sends_what_is_gone_from_the_store(gone: str, outputs: Path) -> None:
    """And only that: what the store has is not written again."""
    run = untracked(outputs)
    project_here(run, outputs)
    before = rows_of(outputs)
    place = outputs / f"artifacts/microgpt/{run.mlflow_run_id}/artifacts"
    files = {file.relative_to(place): file.read_bytes() for file in place.rglob("*.*")}
    if gone == "files":
        (place / "metrics.jsonl").unlink()
        (run.path / "samples.txt").write_text("damaged")
    elif gone == "checkpoints":
        shutil.rmtree(place / "checkpoints")
    else:
        where = {
            "rows": "metrics where step = 5",
            "tags": "tags where key = 'n_params'",
            "params": "params where key = 'seed'",
        }[gone]
        with sqlite3.connect(outputs / "mlflow.db") as database:
            assert database.execute(f"delete from {where}").rowcount > 0
    for _ in range(2):
        assert [*map(str, sync([run], None, outputs))] == [
            f"here  finished  MLflow {run.mlflow_run_id}"
        ]
        assert rows_of(outputs) == before
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)
        there = {file.relative_to(place): file.read_bytes() for file in place.rglob("*.*")}
        assert there == files
