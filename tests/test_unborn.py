"""Folders in which no run began: removed by the next start, with nothing that others put there."""

import time
from pathlib import Path
from threading import Thread

import pytest

from microgpt.ablation.fork import fork
from microgpt.run.folder import RunFolder
from microgpt.run.record import COPYING
from microgpt.run.unborn import claim, sweep_up
from tests.running import TINY, kill, microgpt, running, untracked, wait_until


def begun(outputs: Path, name: str) -> Path:
    """What a run leaves that is killed just before it begins."""
    folder = outputs / "runs" / name
    (folder / "checkpoints").mkdir(parents=True)
    claim(folder)
    for file in ("config.yaml", "documents.txt", "metrics.jsonl", ".run.json.new"):
        (folder / file).write_text("")
    return folder


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    left = [begun(tmp_path, "whole"), tmp_path / "runs/first"]
    left[1].mkdir()
    claim(left[1])
    kept = [begun(tmp_path, name) for name in ("note", "logged", "trained", "record", "held")]
    (kept[0] / "notes.txt").write_text("mine")
    (kept[1] / "metrics.jsonl").write_text("{}\n")
    (kept[2] / "checkpoints/step-1.safetensors").write_text("")
    (kept[3] / "run.json").write_text("{")
    kept.append(tmp_path / "runs/empty")
    kept[-1].mkdir()
    (tmp_path / "runs/a file").write_text("")
    before = {path: sorted(path.rglob("*")) for path in kept}
    with RunFolder(kept[4]).locked():
        sweep_up(tmp_path)
    assert not any(path.exists() for path in left)
    assert {path: sorted(path.rglob("*")) for path in kept} == before
    sweep_up(tmp_path / "nowhere")


def test_who_waits_for_a_folder_makes_it_anew(tmp_path: Path) -> None:
    """Two processes want one folder; the first discards it, and a third must not get in."""
    folder = tmp_path / "runs/it"
    held: list[bool] = []

    def wait() -> None:
        with RunFolder(folder).locked(60.0):
            held.append((folder / ".lock").exists() and RunFolder(folder).held)

    with RunFolder(folder).locked():
        waiting = Thread(target=wait)
        waiting.start()
        time.sleep(0.3)
        (folder / ".lock").unlink()
        folder.rmdir()
    waiting.join()
    assert held == [True]


def test_a_fork_removes_what_another_left(tmp_path: Path) -> None:
    untracked(tmp_path)
    left = begun(tmp_path, "left")
    (left / COPYING).touch()  # killed in the midst of copying
    (left / "metrics.jsonl").write_text("{}\n")
    (left / "checkpoints/step-7.safetensors").write_text("")
    assert fork("here", 7, ["schedule=constant"], None, tmp_path) == 0
    assert not left.exists()
    assert len([*(tmp_path / "runs").iterdir()]) == 2


@pytest.mark.slow
def test_a_run_that_is_killed_before_it_begins(outputs: Path) -> None:
    never = ["schedule=constant", "schedule._target_=tests.schedules.Unbuilt", "tracking=none"]
    with running(outputs, "train", *TINY, *never) as process:
        wait_until(lambda: [*outputs.glob("runs/*/.lock")] or process.poll() is not None)
        kill(process)
    (left,) = (outputs / "runs").iterdir()
    microgpt(outputs, "train", *TINY, "trainer.num_steps=1", "tracking=none")
    assert not left.exists()
    assert len([*outputs.glob("runs/*/run.json")]) == 1
