"""Workers and launchers of a sweep that are killed."""

from collections import Counter
from pathlib import Path

import psutil
import pytest

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import RUNNING
from tests.running import (
    TINY,
    children,
    figures,
    kill,
    running,
    start,
    store,
    train_here,
    wait_until,
)

SWEEP = ["train", "-m", *TINY, "trainer.checkpoint_every=0", "hydra.launcher.workers=1"]


def holder(launcher: int, run: RunFolder) -> psutil.Process | None:
    """The process below `launcher` that holds a run's folder."""
    lock = str(run.path / ".lock")
    for process in psutil.Process(launcher).children(recursive=True):
        try:
            if lock in [file.path for file in process.open_files()]:
                return process
        except psutil.Error:  # it has just ended
            continue
    return None


def kill_worker(launcher: int, outputs: Path, steps: int) -> None:
    """kill -9 of the worker of the one run with so many steps, once it has recorded a new one."""

    def runs() -> list[RunFolder]:
        return [run for run in all_runs(outputs) if run.info["num_steps"] == steps]

    wait_until(lambda: runs() and runs()[0].status == RUNNING and holder(launcher, runs()[0]))
    (run,) = runs()
    before = len(run.metrics())
    wait_until(lambda: len(run.metrics()) > before + 20)
    worker = holder(launcher, run)
    assert worker is not None
    worker.kill()
    wait_until(lambda: holder(launcher, run) != worker)


LONG = [*SWEEP, "trainer.checkpoint_every=20", "trainer.eval_every=0"]


@pytest.mark.slow
def test_a_worker_that_is_killed_once(outputs: Path) -> None:
    words = ["trainer.checkpoint_every=20", "trainer.eval_every=0", "trainer.num_steps=400"]
    with running(outputs, *LONG, "trainer.num_steps=400,3") as process:
        kill_worker(process.pid, outputs, 400)
        said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    runs = {run.info["num_steps"]: run for run in all_runs(outputs)}
    _, whole = train_here(outputs, *words, "tracking=none")
    assert figures(runs[400]) == figures(whole)
    assert Counter(run.info.status for run in children(outputs)) == {"FINISHED": 2}
    (there,) = (r for r in children(outputs) if r.data.params["trainer.num_steps"] == "400")
    history = store(outputs).get_metric_history(there.info.run_id, "train/loss")
    # The store sorts by time, which may be earlier in the second attempt than in the first.
    assert sorted(metric.step for metric in history) == list(range(1, 401))


@pytest.mark.soak
def test_a_job_whose_worker_is_killed_each_time(outputs: Path) -> None:
    """It fails; one that waits behind it does not."""
    with running(outputs, *LONG, "trainer.num_steps=20000,3,4") as process:
        for _ in range(3):
            kill_worker(process.pid, outputs, 20000)
        out, err = process.communicate(timeout=200)
        assert process.returncode == 1, (out, err)
    reason = "3 workers died of it; the last was killed by SIGKILL"
    assert f"num_steps=20000 failed: {reason}\n" in err
    runs = {run.data.params["trainer.num_steps"]: run for run in children(outputs)}
    ends = {steps: run.info.status for steps, run in runs.items()}
    assert ends == {"20000": "FAILED", "3": "FINISHED", "4": "FINISHED"}
    assert runs["20000"].data.tags["reason"] == reason
    assert int(runs["20000"].data.tags["failed_at"]) > 0
    assert out.count("num_steps=20000: its worker was killed by SIGKILL; another goes on\n") == 2
    assert "3 jobs: 2 finished, 1 failed" in out


@pytest.mark.slow
def test_a_killed_launcher_leaves_no_worker(outputs: Path) -> None:
    process = start(outputs, *LONG, "trainer.num_steps=20000,20001")
    wait_until(lambda: any(run.status == RUNNING for run in all_runs(outputs)))
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    kill(process)
    wait_until(lambda: not any(worker.is_running() for worker in workers))
    assert {run.status for run in all_runs(outputs)} == {"killed"}
