"""Disks that are full at any write, folders that cannot be written or vanish, a clock that is set back."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from tests.command import Ended, Within
from tests.faults.conftest import Noted
from tests.faults.whole import STEPS, begin, check_equal, check_store, ended, samples
from tests.running import TINY, has_reached, only_run, train_here, wait_until

BRIEF = ["trainer.num_steps=12", "trainer.checkpoint_every=3", "progress=false"]
PAGE = 4096  # bytes: a disk in memory has room for whole pages
Mount = Callable[[str], None]


def mounted(place: Path, options: str) -> None:
    """Mounts a disk in memory, or mounts it anew with other options."""
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    subprocess.run(words, capture_output=True, check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory, as the outputs."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mounted(place, "size=1m")
    except subprocess.CalledProcessError:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)


@pytest.fixture
def within(
    disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    """A command whose outputs are on the disk."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(disk))
    return Within(monkeypatch, capfd)


def in_a_line(done: Ended) -> None:
    """Checks that a command failed with a line, or ended well."""
    lines = done.err.splitlines()
    assert all(line.startswith("microgpt: ") for line in lines), done
    assert (done.code == 0) == (lines == []), done


@samples(5, 100)
def test_a_disk_that_is_full_at_each_page(
    times: int, disk: Path, within: Within, tmp_path: Path, noted: Noted
) -> None:
    """With ever less room, until a run does not find any; then there is room again."""
    whole = train_here(tmp_path, *BRIEF, "tracking=none")[1]
    words = [*TINY, *BRIEF, "tracking=none"]
    assert within("train", *words).code == 0
    pages = sum(-(-file.stat().st_size // PAGE) for file in disk.rglob("*") if file.is_file()) + 8
    failed = resumed = 0
    for i in range(times):
        shutil.rmtree(disk / "runs")
        shutil.rmtree(disk / "data")
        mounted(disk, f"remount,size={PAGE * (1 + pages * i // times)}")
        done = within("train", *words)
        in_a_line(done)
        failed += done.code != 0
        mounted(disk, "remount,size=8m")
        for run in all_runs(disk):
            if run.status != FINISHED:
                resumed += 1
                in_a_line(within("train", f"resume={run.path}"))
        if not all_runs(disk):
            in_a_line(within("train", *words))
        (run,) = all_runs(disk)
        check_equal([run], whole)
        assert len([*(disk / "runs").iterdir()]) == 1
    assert failed > times // 2
    seen = f"{failed} runs ended in a line, {resumed} of them had begun and were resumed"
    noted("a disk that is full after each number of pages", times, seen)


@samples(0, 20)
def test_a_disk_that_is_full_with_its_store(
    times: int, disk: Path, store_template: Path, tmp_path: Path, noted: Noted
) -> None:
    """The database and its artifacts are on the disk, too.

    A round is checked elsewhere: this process keeps open, and on its disk, each database that it has read.
    """
    whole = train_here(tmp_path, *BRIEF, "tracking=none")[1]
    failed = late = 0
    for i in range(times):
        outputs, kept = disk / str(i), tmp_path / f"kept{i}"
        mounted(disk, "remount,size=16m")
        outputs.mkdir()
        shutil.copy(store_template, outputs / "mlflow.db")
        full = shutil.disk_usage(disk).used + PAGE * (i + 1) * 240 // times
        mounted(disk, f"remount,size={full}")
        said = ended(begin(outputs, "train", *TINY, *BRIEF), 0, 1)
        late += "later: microgpt sync" in said
        mounted(disk, "remount,size=16m")
        for run in all_runs(outputs):
            if run.status != FINISHED:
                failed += 1
                assert f"run {run.path.name} failed" in said
                assert f"go on: microgpt train resume={run.path.name}" in said
                ended(begin(outputs, "train", f"resume={run.path}"), 0)
        if not all_runs(outputs):
            ended(begin(outputs, "train", *TINY, *BRIEF), 0)
        ended(begin(outputs, "sync"), 0)
        shutil.move(outputs, kept)
        check_equal(all_runs(kept), whole)
        check_store(kept)
    assert failed
    assert late
    seen = f"{failed} runs ended in a line that has the command to resume them, and were resumed"
    seen += f"; {late} were finished, and sent later by sync"
    noted("a disk that is full with its store", times, seen)


def make_read_only(disk: Path) -> None:
    """By a mount above it, which is refused as long as a file is open for writing."""
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    remount = ["mount", "-o", "remount,ro,bind", str(disk)]
    wait_until(lambda: subprocess.run(remount, check=False).returncode == 0)


@samples(1, 20)
def test_a_disk_that_becomes_read_only(
    times: int, disk: Path, within: Within, tmp_path: Path, noted: Noted
) -> None:
    whole = train_here(tmp_path, *STEPS, "tracking=none")[1]
    mounted(disk, "remount,size=8m")
    failed = 0
    for i in range(times):
        process = begin(disk, "train", *TINY, *STEPS, "tracking=none", "progress=false")
        wait_until(lambda: any(run.metrics() for run in all_runs(disk)))
        time.sleep(random.Random(i).uniform(0, 0.3))
        make_read_only(disk)
        out, err = process.communicate(timeout=100)
        subprocess.run(["umount", str(disk)], check=True)
        in_a_line(Ended(process.returncode, out, err))
        failed += process.returncode == 1
        (run,) = all_runs(disk)
        if run.status != FINISHED:
            in_a_line(within("train", f"resume={run.path}"))
        check_equal([run], whole)
        shutil.rmtree(disk / "runs")
    noted("a disk that becomes read-only", times, f"{failed} runs ended in a line and were resumed")


GONE = ["", "runs", "runs/*", "runs/*/checkpoints", "runs/*/metrics.jsonl", "mlflow.db", "data"]


@samples(0, 21)
def test_folders_that_vanish(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    """A line says what is gone, or the run is whole; new ones find their place."""
    ends: dict[int, int] = {}
    kept = tmp_path / "kept"
    whole = train_here(tmp_path / "whole", *STEPS, "tracking=none")[1]
    train_here(outputs, *BRIEF, "tracking=none", name="other")
    shutil.copytree(outputs, kept)
    for i in range(times):
        gone = GONE[i % len(GONE)]
        tracking = "mlflow" if gone in ("", "mlflow.db") else "none"
        own = [*STEPS, "progress=false", f"tracking={tracking}"]
        process = begin(outputs, "train", *TINY, *own)
        step = random.Random(i).randrange(250)  # up to the last of `other`: it has not begun
        wait_until(partial(has_reached, outputs, step))
        for path in [*outputs.glob(gone)] if gone else [outputs]:
            if path.name != "other" and "other" not in path.parts:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        said = ended(process, 0, 1)
        if process.returncode == 0:
            (run,) = (run for run in all_runs(outputs) if run.path.name != "other")
            check_equal([run], whole)
        else:
            assert "microgpt: " in said
        ends[process.returncode] = ends.get(process.returncode, 0) + 1
        ended(begin(outputs, "train", *TINY, *BRIEF, "tracking=none"), 0)
        shutil.rmtree(outputs)
        shutil.copytree(kept, outputs)
    seen = f"{ends.get(1, 0)} runs failed in a line, {ends.get(0, 0)} did not need what was gone"
    noted("files and folders that vanish under a run", times, seen)


@samples(1, 10)
def test_a_clock_that_is_set_back(times: int, outputs: Path, tmp_path: Path, noted: Noted) -> None:
    """That of the run and of the process that sends, at some step of the run."""
    library = tmp_path / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    whole = train_here(tmp_path, *STEPS, "tracking=none")[1]
    count = 0
    for i in range(times):
        place, now = tmp_path / f"set{i}", tmp_path / f"now{i}"
        shutil.copytree(outputs, place)
        clock = {"LD_PRELOAD": str(library), "TEST_SET_BACK": str(now)}
        process = begin(place, "train", *TINY, *STEPS, **clock)
        step = random.Random(i).randrange(1, 200)
        wait_until(partial(has_reached, place, step))
        now.touch()
        ended(process, 0)
        run = only_run(place)
        assert run.info["ended"] < run.info["begun"]
        check_equal([run], whole)
        count += check_store(place)
    noted("a clock that is set back by an hour in mid-run", times, f"{count:,} figures")
