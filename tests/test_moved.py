"""Outputs that are moved, copied or archived, and a disk that is full."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from microgpt.ablation.records.record import opened
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED
from tests.command import Within
from tests.conftest import Verify
from tests.running import artifacts, figures, resume_here, store, sync_here, train_here

WORDS = ["trainer.num_steps=12", "trainer.checkpoint_every=5", "engine=native", "tracking=none"]
TRACKED = {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "microgpt"}


def sent(run: RunFolder, outputs: Path) -> None:
    """Sends a run to the store in its outputs, in this process."""
    run.set_config(run.config | {"tracking": TRACKED})
    sync_here(outputs)


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below a folder, but for locks."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]
    return {file: file.read_bytes() for file in files}


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_resume_writes_where_the_folder_is_now(
    outputs: Path, tmp_path: Path, move: Callable[[Path, Path], object], verify: Verify
) -> None:
    whole = figures(train_here(tmp_path / "whole", *WORDS)[1])
    _, run = train_here(outputs, *WORDS, "trainer.stop_after=7")
    assert run.config["paths"]["outputs"] == "../.."
    sent(run, outputs)
    there = tmp_path / "there"
    move(outputs, there)
    utils._artifact_repos_cache.clear()  # what MLflow knows of the store before, in this process
    before = contents(outputs)
    moved = RunFolder(there / "runs/here")
    resume_here(tmp_path / "elsewhere", moved.path, "trainer.stop_after=null", "tracking=none")
    sent(moved, there)
    assert figures(moved) == whole
    assert contents(outputs) == before
    assert not (tmp_path / "elsewhere").exists()
    names = {name.rpartition("/")[2] for name in artifacts(there)}
    assert {"step-7.safetensors", "step-12.safetensors"} <= names
    assert store(there).get_run(moved.mlflow_run_id).info.status == "FINISHED"
    assert verify(there, "here")[0] == 0


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Shows a folder where nobody can write into it, which only root may do."""
    place = tmp_path / "archive"
    place.mkdir()

    def mount(folder: Path) -> Path:
        for words in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
            done = subprocess.run(["mount", *words, str(place)], capture_output=True, check=False)
            if done.returncode:
                pytest.skip("nothing can be mounted here")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


@pytest.mark.slow
def test_an_archive_that_cannot_be_written_is_read(
    outputs: Path,
    read_only: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("here", "other"):
        sent(train_here(outputs, *WORDS, name=name)[1], outputs)
    place = read_only(outputs)
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(place))
    before = contents(outputs)
    microgpt = Within(monkeypatch, capfd)
    for words in (["runs"], ["sample", "here"], ["verify", "here"], ["compare", "here", "other"]):
        ended = microgpt(*words)
        assert (ended.code, ended.err) == (0, ""), words
    for words in (["sync"], ["train", "resume=here"]):
        ended = microgpt(*words)
        assert ended.code != 0
        assert "Traceback" not in ended.err
    assert contents(outputs) == before


def test_a_full_disk_names_the_run_and_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # a checkpoint is larger
    try:
        code, run = train_here(tmp_path, *WORDS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capfd.readouterr().err.splitlines()
    assert code == 1
    assert line.startswith("microgpt: run here failed at step 5: ")
    assert line.endswith("; go on: microgpt train resume=here")
    resume_here(tmp_path, run.path)
    assert run.info["status"] == FINISHED


def test_a_record_that_is_gone_is_not_begun_from_a_part(tmp_path: Path) -> None:
    _, run = train_here(tmp_path, *WORDS)
    os.unlink(run.path / "run.json")
    with pytest.raises(ValueError, match="No such file"):
        run.update(status="failed")
    assert not run.exists


def test_weights_that_were_not_finite_at_the_end_are_verified(
    outputs: Path, verify: Verify
) -> None:
    words = ["optimizer=adamw", "optimizer.lr=1e308", "optimizer.weight_decay=100"]
    words += ["trainer.num_steps=1", "trainer.eval_documents=0", "tracking=none"]
    code, run = train_here(outputs, *words)
    assert (code, run.info["reason"][:15]) == (1, "the update left")
    sent(run, outputs)
    code, said = verify(outputs, "here")
    assert (code, "failed as recorded (the update left " in said) == (0, True), said


def test_a_run_that_is_resumed_meanwhile_is_seen(outputs: Path) -> None:
    _, run = train_here(outputs, *WORDS)
    sent(run, outputs)
    with opened("here", None, outputs) as record:
        assert not record.is_under_way()
        store(outputs).update_run(run.mlflow_run_id, "RUNNING")
        assert record.is_under_way()
