"""`microgpt rm` removes what microgpt made, wherever it was moved, and nothing else."""

import json
import shutil
from pathlib import Path

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import begin_of
from microgpt.run.sweep import all_sweeps
from tests.conftest import Here
from tests.running import SHORT, TINY, store, stored, train_here

THEIRS = ("notes.txt", ".secret", "checkpoints/step-mine.safetensors", "more/deep.bin")


def test_only_what_we_made_is_removed(tmp_path: Path, here: Here) -> None:
    mine = tmp_path / "mine"
    words = ["train", *TINY, *SHORT, "tracking=none", "progress=false", f"hydra.run.dir={mine}"]
    here(tmp_path, *words)
    for name in THEIRS:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text(name)
    run = RunFolder(mine)
    assert run.exists
    assert not {file.relative_to(mine).as_posix() for file in run.files()} & {*THEIRS}
    said, complained = here(tmp_path, "rm", str(mine), "--yes", "--json")
    assert {file.relative_to(mine).as_posix() for file in mine.rglob("*") if file.is_file()} == {
        *THEIRS
    }
    assert all((mine / name).read_text() == name for name in THEIRS)
    assert set(json.loads(said)["kept"]) == {str(mine / name) for name in THEIRS}
    assert f"keeps  4 files that microgpt did not make, in {mine}" in complained


def test_all_that_a_run_makes_is_known(outputs: Path, here: Here) -> None:
    """A folder of a run that has everything is gone."""
    _, run = train_here(outputs, *SHORT, "data.test_fraction=0.3")
    assert (run.path / "held_out.safetensors").is_file()
    (run.path / "traceback.txt").touch()
    (run.path / ".run.json.new").touch()  # it was killed in the middle
    here(outputs, "rm", "here", "--yes")
    assert not run.path.exists()


def test_a_run_does_not_write_over_what_is_no_runs(tmp_path: Path, here: Here) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.yaml").write_text("a: 1\n")
    words = ["train", *TINY, "tracking=none", f"hydra.run.dir={tmp_path}/mine"]
    _, complained = here(tmp_path, *words, code=2)
    assert "mine: must be a new or an empty folder, but has config.yaml" in complained
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["config.yaml"]
    assert (tmp_path / "mine/config.yaml").read_text() == "a: 1\n"


def test_what_was_moved_goes_from_the_store_too(outputs: Path, tmp_path: Path, here: Here) -> None:
    """Without a sync in the new place before; a copy of them leaves what is the original's."""
    _, run = train_here(outputs, *SHORT)
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    artifacts = moved / "artifacts/microgpt" / run.mlflow_run_id
    shutil.copytree(outputs, copied)
    here(copied, "rm", "here", "--yes")
    assert stored(copied) == []
    assert len(stored(outputs)) == 1
    outputs.rename(moved)
    assert artifacts.is_dir()
    said, _ = here(moved, "rm", "here", "--yes")
    assert "in MLflow 1 run " in said
    assert store(moved).search_runs(["1"], run_view_type=3) == []
    assert not artifacts.exists()
    outputs.mkdir()  # the fixture ends


def test_runs_of_a_sweep_that_was_removed_keep_their_documents(outputs: Path, here: Here) -> None:
    """Those that another sweep has too are whole, and can be sent."""
    for seeds in ("1,2", "2,3"):
        here(outputs, "train", "-m", *TINY, *SHORT, f"seed={seeds}", "hydra/launcher=basic")
    first, second = sorted(all_sweeps(outputs), key=begin_of)
    here(outputs, "rm", first.path.name, "--yes")
    (shared,) = [run for run in all_runs(outputs) if len(run.info["sweeps"]) == 2]
    here(outputs, "sync")
    there = store(outputs).get_run(shared.mlflow_run_id)
    assert "mlflow.parentRunId" not in there.data.tags
    files = {file.path for file in store(outputs).list_artifacts(shared.mlflow_run_id)}
    assert "documents.txt" in files
    said, complained = here(outputs, "sync")  # nothing is left to send
    assert complained == ""
    place = outputs / "artifacts/microgpt"
    (documents,) = place.glob("*/artifacts/documents/*.txt")  # of the second sweep
    whole = documents.read_bytes()
    documents.chmod(0o644)
    documents.write_bytes(whole[:100])  # a copy that was broken off
    here(outputs, "sync")
    assert documents.read_bytes() == whole
    assert second.path.name in said
