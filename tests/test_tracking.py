"""Run folders in a real store: all that is there, once, whatever the store does."""

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest

from microgpt.core.events import Stepped
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FAILED, FINISHED, RUNNING
from microgpt.tracking import MLflow, open_store, sync
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import LONGEST, experiment_id
from microgpt.tracking.tracker import Sender, Store
from tests.running import (
    REPOSITORY,
    TINY,
    has_reached,
    history,
    kill,
    microgpt,
    only_run,
    recorded,
    start,
    store,
    stored,
    train_here,
    wait_until,
)

SHORT = ["trainer.num_steps=12", "trainer.checkpoint_every=5"]
NOWHERE = "http://127.0.0.1:1"


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


def project_here(run: RunFolder, outputs: Path) -> Projection:
    """A run folder projected into the default store."""
    projection = Store(f"sqlite:///{outputs}/mlflow.db", outputs).project(run, "microgpt")
    assert isinstance(projection, Projection)
    projection.update()
    return projection


def untracked(outputs: Path, *overrides: str) -> RunFolder:
    """A finished run that no store knows."""
    return train_here(outputs, "tracking=none", *SHORT, *overrides)[1]


def rows_of(outputs: Path) -> dict[str, int]:
    """How many rows each table of the default store has."""
    with sqlite3.connect(outputs / "mlflow.db") as database:
        names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {
            name: database.execute(f'select count(*) from "{name}"').fetchone()[0]
            for (name,) in names
        }


def artifacts(outputs: Path) -> dict[str, int]:
    """name -> time of writing, for every artifact of the default store."""
    place = outputs / "artifacts"
    return {
        str(f.relative_to(place)): f.stat().st_mtime_ns for f in place.rglob("*") if f.is_file()
    }


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


def test_tags_say_what_the_run_is(tracked: tuple[Path, RunFolder]) -> None:
    outputs, run = tracked
    (there,) = stored(outputs)
    tags, info = there.data.tags, run.info
    for key in ("signature", "source", "parameters_sha256"):
        assert tags[key] == info[key]
    assert tags["n_params"] == str(info["n_params"])
    assert tags["fingerprint.libm"] == info["fingerprint"]["libm"]
    assert {"fingerprint.python", "fingerprint.os", "fingerprint.engine"} <= tags.keys()
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


def test_the_data_are_an_input(tracked: tuple[Path, RunFolder]) -> None:
    outputs, run = tracked
    (use,) = stored(outputs)[0].inputs.dataset_inputs
    assert use.dataset.name == "names_tiny"
    assert run.info["data"]["digest"].startswith(use.dataset.digest)
    assert json.loads(use.dataset.profile)["documents"] == 64
    assert [(tag.key, tag.value) for tag in use.tags] == [("mlflow.data.context", "training")]


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
    assert list(sync([run], None, outputs)) == [f"here  finished  MLflow {run.mlflow_run_id}"]
    rows, files = rows_of(outputs), artifacts(outputs)
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    assert list(sync([run], None, outputs)) == [f"here  finished  MLflow {run.mlflow_run_id}"]
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


def test_two_at_once_double_nothing(outputs: Path) -> None:
    run = untracked(outputs)
    with run.locked():
        run.update(status=RUNNING, ended=None)
        uri = f"sqlite:///{outputs}/mlflow.db"
        client = open_store(uri, outputs)
        experiment = experiment_id(client, "microgpt", uri, outputs)
        both = [Projection(client, run, experiment) for _ in range(2)]
        for projection in both:
            projection._prepare(RUNNING)  # both believe that the store has nothing
        for projection in both:
            projection.update()
    assert len(stored(outputs)) == 1
    assert history(client, run.mlflow_run_id) == recorded(run)


class Forgetful:
    """A store that does what it is asked for, and whose answers are lost now and then."""

    def __init__(self, client: Any) -> None:
        self.client, self.rng = client, Random(0)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if self.rng.random() < 0.3 and not name.startswith(("get", "search", "list")):
                raise ConnectionError("no answer")
            return answer

        return call


def test_answers_that_are_lost_double_nothing(outputs: Path) -> None:
    run = untracked(outputs)
    project_here(run, outputs)  # what it should be
    right = {**rows_of(outputs)}
    store(outputs).delete_run(run.mlflow_run_id)
    uri = f"sqlite:///{outputs}/mlflow.db"
    client = Forgetful(open_store(uri, outputs))
    experiment = experiment_id(client.client, "microgpt", uri, outputs)
    lost = 0
    while True:
        try:
            Projection(client, run, experiment).update()  # type: ignore[arg-type]
            break
        except ConnectionError:
            lost += 1
    assert lost > 3
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert history(store(outputs), there.info.run_id) == recorded(run)
    twice = rows_of(outputs)
    for table in ("runs", "metrics", "params", "latest_metrics"):
        assert twice[table] == 2 * right[table], table  # the deleted run's are still there


def test_twins_of_a_call_that_seemed_to_fail(outputs: Path) -> None:
    run = untracked(outputs)
    uri = f"sqlite:///{outputs}/mlflow.db"
    client = open_store(uri, outputs)
    experiment = experiment_id(client, "microgpt", uri, outputs)
    for _ in range(3):
        client.create_run(experiment, 0, {"microgpt.id": run.path.name})
    assert len(stored(outputs)) == 3
    project_here(run, outputs)
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


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
    kept = recorded(run)
    finite = {name: [p for p in points if math.isfinite(p[1])] for name, points in kept.items()}
    assert history(store(outputs), there.info.run_id) == finite
    assert there.data.metrics["train/loss"] == finite["train/loss"][-1][1]
    with sqlite3.connect(outputs / "mlflow.db") as database:
        for table in ("metrics", "latest_metrics"):
            query = f"select count(*) from {table} where is_nan or abs(value) > 1e300"
            assert database.execute(query).fetchone() == (0,)


def test_a_run_that_breaks_off(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("microgpt.run.folder.write_checkpoint", full)
    with pytest.raises(OSError, match="disk full"):
        train_here(outputs, *SHORT)
    tags = stored(outputs)[0].data.tags
    assert stored(outputs)[0].info.status == "FAILED"
    assert (tags["failed_at"], tags["reason"]) == ("5", "OSError: disk full")


def test_a_killed_run_is_shown_as_failed_until_it_goes_on(outputs: Path) -> None:
    process = start(outputs, "train", *TINY, "trainer.num_steps=4000", "tracking=none")
    wait_until(lambda: has_reached(outputs, 1))
    kill(process)
    run = only_run(outputs)
    project_here(run, outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FAILED"
    assert there.data.tags["reason"] == "its process was killed"
    assert [*sync([run], None, outputs)] == [f"{run.path.name}  killed  MLflow {run.mlflow_run_id}"]
    with run.locked():
        project_here(run, outputs)
        (there,) = stored(outputs)
        assert there.info.status == "RUNNING"
        assert "reason" not in there.data.tags


def test_a_server_that_is_down_costs_nothing_but_lateness(outputs: Path) -> None:
    said, complained = start(
        outputs, "train", *TINY, *SHORT, f"tracking.uri={NOWHERE}"
    ).communicate(timeout=100)
    run = only_run(outputs)
    name = run.path.name
    assert complained == (
        f"microgpt: not all is in MLflow yet ({NOWHERE}: nothing answers there); "
        f"later: microgpt sync {name}\n"
    )
    assert run.status == FINISHED
    assert stored(outputs) == []
    said, complained = microgpt(outputs, "sync", name, code=1)
    assert said == f"{name}  finished  {NOWHERE}: nothing answers there\n"
    assert complained == "microgpt: 1 of 1 runs are not all in MLflow\n"
    uri = f"sqlite:///{outputs}/mlflow.db"
    for _ in range(2):
        list(sync([run], uri, outputs))
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    assert len(stored(outputs)) == 1


class Sleepy(BaseHTTPRequestHandler):
    """Answers nothing before the test is over."""

    over = Flag()

    def do_GET(self) -> None:
        self.over.wait()

    do_POST = do_GET


def test_a_server_that_does_not_answer_does_not_hold_the_end(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MLflow, "PATIENCE", 0.5)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sleepy)
    Thread(target=server.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}"
    try:
        code, run = train_here(
            outputs, *SHORT, f"tracking.uri={uri}"
        )  # the server holds it for ever
    finally:
        Sleepy.over.set()
        server.shutdown()
        server.server_close()
    assert (code, run.status) == (0, FINISHED)
    assert f"({uri}: no end within 0.5 s); later: microgpt sync here" in capfd.readouterr().err


def test_ctrl_c_ends_the_waiting(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Sender.flush

    def interrupted(sender: Sender, _: float) -> None:
        flush(sender, 0.0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sender, "flush", interrupted)
        code, run = train_here(outputs, *SHORT, f"tracking.uri={NOWHERE}")
    assert (code, run.status) == (130, FINISHED)


def test_the_environment_names_the_store(
    outputs: Path, store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(store_template, other / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}/mlflow.db")
    train_here(outputs, *SHORT, "tracking.experiment=mine")
    assert stored(outputs, "mine") == []
    (there,) = stored(other, "mine")
    assert there.info.artifact_uri.startswith((outputs / "artifacts/mine").as_uri())


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
    data = run.info["data"] | {"vocabulary": "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))}
    run.update(data=data)
    project_here(run, outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert there.data.params["model.notes"] == "x" * (LONGEST - 1) + "…"
    assert there.data.tags["mlflow.note.content"] == ("long" * 3000)[: LONGEST - 1] + "…"
    assert there.data.tags["data.vocabulary"] == data["vocabulary"][: LONGEST - 1] + "…"


def train_at_once(outputs: Path, count: int, *words: str) -> None:
    """So many processes that log into one store: no complaint, no figure lost."""
    processes = [start(outputs, "train", *TINY, *words, f"seed={seed}") for seed in range(count)]
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    assert [complained for _, complained in said] == [""] * count  # and no noise of MLflow's
    runs = stored(outputs)
    assert sorted(int(run.data.params["seed"]) for run in runs) == list(range(count))
    assert {run.info.status for run in runs} == {"FINISHED"}
    folders = all_runs(outputs)
    assert len(folders) == count
    for run in folders:
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_on_a_fresh_store(count: int, tmp_path: Path) -> None:
    train_at_once(tmp_path, count, *SHORT)


@pytest.mark.slow
def test_sixteen_processes_log_into_one_store(outputs: Path) -> None:
    train_at_once(outputs, 16, "trainer.num_steps=500")


def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    process = start(tmp_path, "train", *TINY, "trainer.num_steps=9000")
    wait_until((tmp_path / ".mlflow.db.new").exists)
    kill(process)
    assert not (tmp_path / "mlflow.db").exists()
    run = train_here(tmp_path, *SHORT)[1]
    assert history(store(tmp_path), run.mlflow_run_id) == recorded(run)


def test_a_run_in_a_thread(outputs: Path) -> None:
    """As a worker of a sweep has it: without signals."""
    codes: list[int] = []
    thread = Thread(target=lambda: codes.append(train_here(outputs, "tracking=none", *SHORT)[0]))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("words", [["train", "--help"], ["runs"], ["train", *TINY, "--cfg", "job"]])
def test_mlflow_is_not_imported_for_nothing(words: list[str], tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from microgpt.cli import main;"
        "atexit.register(lambda: print('mlflow' in sys.modules, file=sys.stderr)); main()"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "MICROGPT_OUTPUTS": str(tmp_path)}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
