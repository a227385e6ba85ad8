"""Links, pipes and names in folders of others lead nowhere: nothing outside is written, sent or removed."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from microgpt.run.folder import RunFolder
from microgpt.run.sweep import SweepFolder
from tests.conftest import Here
from tests.running import SHORT, project_here, replace, stored, train_here

STOPPED = ["engine=native", "tracking=none", "trainer.stop_after=7"]
COMMANDS = {
    "resume": ("train resume=here progress=false", 2),
    "sync": ("sync here", 1),
}


@pytest.fixture(scope="module")
def kept(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a store, and a run that can go on."""
    outputs = tmp_path_factory.mktemp("kept") / "outputs"
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    _, run = train_here(outputs, *SHORT, *STOPPED)
    replace(
        run.path / "config.yaml",
        "tracking.NoTracking",
        "tracking.MLflow\n  uri: null\n  experiment: microgpt",
    )
    return outputs


@pytest.fixture
def outputs(kept: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(kept, tmp_path / "outputs"))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (".lock", "resume"),
        (".run.json.new", "resume"),
        ("metrics.jsonl", "resume"),
        ("checkpoints", "resume"),
        ("checkpoints/.step-12.safetensors.new", "resume"),
        (".mlflow.lock", "sync"),
        (".mlflow_run_id.new", "sync"),
        ("notes.txt", "sync"),
    ],
)
def test_a_link_in_a_run_is_not_followed(
    name: str, command: str, outputs: Path, tmp_path: Path, here: Here
) -> None:
    link, theirs = outputs / "runs/here" / name, tmp_path / "theirs"
    if link.exists():
        link.rename(theirs)
    else:
        theirs.write_text("secret\n")
    before = {file: file.read_bytes() for file in theirs.rglob("*")} or theirs.read_bytes()
    link.symlink_to(theirs)
    line, code = COMMANDS[command]
    _, complained = here(outputs, *line.split(), code=code)
    assert f"{link}: must be a file, but is a link, a pipe or a device" in complained
    assert before == (
        {file: file.read_bytes() for file in theirs.rglob("*")} or theirs.read_bytes()
    )
    assert stored(outputs) == []


def test_a_figure_of_a_database_is_a_number(outputs: Path, here: Here) -> None:
    run = RunFolder(outputs / "runs/here")
    project_here(run, outputs)
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database, database:
        database.execute("update metrics set step = 'x' where step = 5")
    _, complained = here(outputs, "verify", run.mlflow_run_id, code=2)
    assert "has what is no number" in complained


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_in_a_run_is_not_waited_for(command: str, outputs: Path, here: Here) -> None:
    for name in (".lock", ".mlflow.lock"):
        (outputs / "runs/here" / name).unlink(missing_ok=True)
        os.mkfifo(outputs / "runs/here" / name)
    line, code = COMMANDS[command]
    assert "lock: must be a file, but is a link" in here(outputs, *line.split(), code=code)[1]


def test_a_link_in_what_is_no_run_ends_no_other(outputs: Path, here: Here) -> None:
    unborn = outputs / "runs/unborn"
    unborn.mkdir()
    (unborn / ".lock").symlink_to(outputs / "mlflow.db")
    here(outputs, "train", "debug=quick", "progress=false")
    assert unborn.exists()


def test_a_link_to_a_run_is_not_removed(outputs: Path, tmp_path: Path, here: Here) -> None:
    link, run = tmp_path / "link", outputs / "runs/here"
    link.symlink_to(run)
    assert (
        f"is a link; name the folder, {run}" in here(outputs, "rm", str(link), "--yes", code=2)[1]
    )
    assert RunFolder(run).exists


@pytest.mark.parametrize("name", ["../../theirs/runs/here", "..", "", "{path}/theirs/runs/here"])
def test_a_sweep_has_runs_beside_it_alone(
    name: str, outputs: Path, tmp_path: Path, here: Here
) -> None:
    """What another has written cannot have runs of other outputs removed."""
    shutil.copytree(outputs, tmp_path / "theirs")
    sweep = SweepFolder(outputs / "sweeps/0123456789ab-01234567")
    sweep.path.mkdir(parents=True)
    own = RunFolder(outputs / "runs/here")
    job = {"run": name.format(path=tmp_path), "name": "a", "arm": "a", "differs": {}, "tags": {}}
    facts = {key: own.info[key] for key in ("signature", "source", "begun")}
    facts |= {
        "id": sweep.path.name,
        "name": "a",
        "status": "finished",
        "grid": {},
        "config": own.config,
    }
    (sweep.path / "sweep.json").write_text(json.dumps({**facts, "jobs": [job]}))
    _, complained = here(outputs, "rm", sweep.path.name, "--yes", code=2)
    assert "sweep.json: jobs must be a list, each a job, but is" in complained
    assert RunFolder(tmp_path / "theirs/runs/here").exists
    assert own.exists


def test_a_folder_with_other_files_holds_no_run(tmp_path: Path, here: Here) -> None:
    """They would be sent to the store with the run, and be removed with it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("a year's work\n")
    words = ["debug=quick", "progress=false", f"hydra.run.dir={mine}"]
    _, complained = here(tmp_path / "outputs", "train", *words, code=2)
    assert (
        f"hydra.run.dir={mine}: must be a new or an empty folder, but has thesis.txt" in complained
    )
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
    (mine / "thesis.txt").unlink()
    here(tmp_path / "outputs", "train", *words)
    assert RunFolder(mine).exists
