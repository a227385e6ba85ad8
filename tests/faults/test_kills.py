"""kill -9 at seeded moments of a run, a fork, a sync and a report."""

import shutil
from pathlib import Path

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FINISHED
from tests.faults.conftest import Noted
from tests.faults.whole import (
    STEPS,
    begin,
    check_equal,
    check_store,
    ended,
    family_of,
    kill_often,
    samples,
    seconds_of,
)
from tests.running import TINY, parents, resume_here, sync_here, train_here, untracked, wait_until
from tests.sweeps import heads, log_sweep


def go_on_with_all(outputs: Path, runs: list[RunFolder]) -> int:
    """Resumes what is not finished, and sends what is missing; how many went on."""
    wait_until(lambda: not family_of(outputs))
    begun = [run for run in runs if run.status != FINISHED]
    for run in begun:
        resume_here(outputs, run.path)
    sync_here(outputs)
    return len(begun)


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder; what is in hidden folders is none."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if not name.startswith(".")}


@samples(2, 100)
def test_kills_of_a_run(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    words = [*TINY, *STEPS]
    whole = train_here(tmp_path / "whole", *STEPS, "tracking=none")[1]
    shutil.copytree(outputs, tmp_path / "timed")
    span = seconds_of(tmp_path / "timed", "train", *words)
    dead = kill_often(range(times), span, outputs, ["train", *words])
    ended(begin(outputs, "train", *words), 0)  # removes folders in which no run began
    runs = all_runs(outputs)
    resumed = go_on_with_all(outputs, runs)
    assert len(runs) == len([*(outputs / "runs").iterdir()])
    check_equal(runs, whole)
    count = check_store(outputs)
    seen = f"{dead} died, {resumed} of them had begun and were resumed; {count:,} figures"
    noted("kill -9 of a run, of every second with all its processes", times, seen)


@samples(0, 100)
def test_kills_of_a_fork(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    """A quarter of them are tracked, the others are sent by sync."""
    parent = untracked(outputs, *STEPS, name="parent")
    words = ["fork", "parent", "--at-step", "120", "optimizer.lr=0.02"]
    shutil.copytree(outputs, tmp_path / "timed")
    ended(begin(tmp_path / "timed", *words, "tracking=none"), 0)
    (whole,) = (run for run in all_runs(tmp_path / "timed") if run.path.name != "parent")
    dead = first = 0
    for tracking, count in (("mlflow", -(-times // 4)), ("none", times - -(-times // 4))):
        own = [*words, f"tracking={tracking}"]
        shutil.copytree(outputs, tmp_path / tracking)
        span = seconds_of(tmp_path / tracking, *own)
        dead += kill_often(range(first, first + count), span, outputs, own)
        first += count
    ended(begin(outputs, *words, "tracking=none"), 0)  # removes folders in which no run began
    runs = [run for run in all_runs(outputs) if run.path.name != "parent"]
    resumed = go_on_with_all(outputs, runs)
    assert len(runs) + 1 == len([*(outputs / "runs").iterdir()])
    check_equal(runs, whole)
    count = check_store(outputs, [*runs, parent])
    seen = f"{dead} died, {resumed} had begun and were resumed; {count:,} figures"
    noted("kill -9 of a fork, of every second with all its processes", times, seen)


@samples(2, 100)
def test_kills_of_a_sync(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    """Four in succession, then one that ends: of twelve runs that no store knows."""
    kept = tmp_path / "kept"
    shutil.copytree(outputs, kept)
    for i in range(12):
        untracked(kept, name=f"run{i}")
    shutil.copytree(kept, tmp_path / "timed")
    span = seconds_of(tmp_path / "timed", "sync")
    dead = count = 0
    for first in range(0, times, 4):
        place = tmp_path / f"from{first}"
        shutil.copytree(kept, place)
        dead += kill_often(range(first, min(first + 4, times)), span, place, ["sync"])
        sync_here(place)
        count += check_store(place)
        shutil.rmtree(place)
    noted("kill -9 of a sync of 12 runs", times, f"{dead} died; {count:,} figures")


@samples(0, 100)
def test_kills_of_a_report(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    made = heads()
    log_sweep(outputs, made)
    words = ["report", made.id, "--out"]
    ended(begin(outputs, *words, str(tmp_path / "right")), 0)
    right = contents(tmp_path / "right")
    shutil.copytree(outputs, tmp_path / "timed")
    span = seconds_of(tmp_path / "timed", *words, str(tmp_path / "first"))

    def look() -> None:
        """The report is there whole, or not at all."""
        found = {
            name: content for name, content in contents(tmp_path / "out").items() if "/" in name
        }
        assert not found or found == {name: right[name] for name in right if "/" in name}

    dead = kill_often(range(times), span, outputs, [*words, str(tmp_path / "out")], look)
    ended(begin(outputs, *words, str(tmp_path / "out")), 0)
    assert contents(tmp_path / "out") == right
    assert len(parents(outputs)) == 1
    noted("kill -9 of a report", times, f"{dead} died; the report was there whole or not at all")
