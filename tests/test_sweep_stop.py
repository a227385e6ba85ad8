"""A sweep that is told to stop, by Ctrl-C or SIGTERM; what it shows on a terminal meanwhile."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pexpect
import psutil
import pytest

from microgpt.run.checkpoint import read_checkpoint
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import STOPPED
from microgpt.run.sweep import all_sweeps
from microgpt.sweep import cluster
from tests.conftest import Here
from tests.running import (
    COMMAND,
    REPOSITORY,
    SLOWLY,
    TINY,
    running,
    start,
    stored,
    wait_until,
)

LONG = [
    *("train", "-m", *TINY, "trainer.num_steps=20000", "trainer.checkpoint_every=10000"),
    *("trainer.eval_every=0", "hydra.launcher.workers=2", "seed=1,2,3"),
]


def environment(outputs: Path) -> dict[str, str]:
    ours = {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)}
    return os.environ | ours


def far(outputs: Path) -> list[RunFolder]:
    """The runs that have recorded some steps."""
    return [run for run in all_runs(outputs) if len(run.metrics()) > 20]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["processes", pytest.param("basic", marks=pytest.mark.soak)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped(outputs: Path, launcher: str, number: int) -> None:
    """Ctrl-C goes to the whole group of a terminal, SIGTERM to the launcher alone."""
    words = LONG if launcher == "processes" else [*LONG[:-2], "seed=1,2", "hydra/launcher=basic"]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        env=environment(outputs),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    count = 2 if launcher == "processes" else 1
    try:
        wait_until(lambda: len(far(outputs)) == count or process.poll() is not None)
        family = psutil.Process(process.pid).children(recursive=True)
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        said, complaints = process.communicate(timeout=100)
        wait_until(lambda: not any(each.is_running() for each in family))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, complaints) == (128 + number, ""), said
    runs = all_runs(outputs)
    assert [run.status for run in runs] == [STOPPED] * count  # the last did not begin
    for run in runs:
        state = read_checkpoint(run.checkpoints()[0])
        assert run.info["stopped_at"] == f"step {state.step} of 20000"
    (line,) = (line for line in said.splitlines() if line.startswith("stopped; "))
    assert line.startswith("stopped; go on with the same command: microgpt train -m ")
    assert Counter(run.info.status for run in stored(outputs)) == {"KILLED": count + 1}


@pytest.mark.slow
def test_a_job_that_waits_for_another_sweep_is_stopped(outputs: Path) -> None:
    """Another process holds the folder of the one job: the first Ctrl-C ends the waiting."""
    words = [*LONG[:-2], "tracking=none", "hydra.launcher.workers=1", "seed=1,2"]
    folder = outputs / "runs" / job_names(outputs, words)[0]
    with RunFolder(folder).locked(), running(outputs, *words) as process:
        wait_until(lambda: waits_for(process.pid, folder / ".lock"))
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=30)
    assert (process.returncode, complaints) == (130, ""), said
    assert "stopped; go on with the same command: " in said
    assert all_runs(outputs) == []


def job_names(outputs: Path, words: Sequence[str]) -> list[str]:
    """The folders of the jobs of a sweep, in their order."""
    with running(outputs, *words) as process:
        wait_until(lambda: all_sweeps(outputs))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    (sweep,) = all_sweeps(outputs)
    for run in outputs.glob("runs/*"):
        shutil.rmtree(run)
    return [job["run"] for job in sweep.jobs]


def waits_for(launcher: int, file: Path) -> bool:
    """Whether a process below the launcher has opened a file."""
    found = []
    for process in psutil.Process(launcher).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            found += [each.path for each in process.open_files()]
    return str(file) in found


COUNTING = """
import atexit, sys
reads = []
sys.addaudithook(
    lambda event, words: event == "open"
    and str(words[0]).endswith("sweep.json") and reads.append(1)
)
atexit.register(lambda: print(len(reads), "reads"))
"""


@pytest.mark.soak
def test_the_plan_is_not_read_for_each_job(outputs: Path) -> None:
    """With Hydra's own launcher, which hands a job only its configuration."""
    reads = []
    for jobs in (2, 9):
        words = ["train", "-m", *TINY, "trainer.num_steps=1", "hydra/launcher=basic"]
        words += [f"seed=range({jobs})", "tracking=none", "progress=false"]
        process = start(outputs, *words, first=COUNTING)
        said, complaints = process.communicate(timeout=100)
        assert process.returncode == 0, complaints
        reads.append(said.splitlines()[-1])
    assert reads[0] == reads[1]


@pytest.mark.slow
def test_the_table_on_a_terminal(outputs: Path) -> None:
    words = [*TINY, *SLOWLY, "trainer.num_steps=80", "trainer.eval_every=0", "seed=1,2"]
    words += ["hydra.launcher.workers=1"]
    child = pexpect.spawn(
        sys.executable,
        ["-c", COMMAND, "train", "-m", *words],
        env=environment(outputs) | {"TERM": "xterm", "COLUMNS": "150"},
        dimensions=(40, 150),
        encoding="utf-8",
        timeout=100,
    )
    try:
        child.expect("2 jobs: 2 new")
        child.expect(r"0 finished, 1 running, 1 waiting, \d:\d\d:\d\d left")
        child.expect(r"seed=1 +\d+ / 80 +\d\.\d{4}")  # the one that runs, its step and loss
        child.expect("1 finished, 1 running, 0 waiting")
        child.expect("2 jobs: 2 finished")
        child.expect(pexpect.EOF)
        child.close()
    finally:
        child.close(force=True)
    assert child.exitstatus == 0


def test_an_address_where_nobody_answers(
    outputs: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        words = [*LONG, f"hydra.launcher.address={address}"]
        _, complained = here(outputs, *words, code=2)
        assert re.fullmatch(rf"microgpt: hydra.launcher.address={address}: .*\n", complained)
    assert all_runs(outputs) == []
    assert "RUNNING" not in {run.info.status for run in stored(outputs)}
