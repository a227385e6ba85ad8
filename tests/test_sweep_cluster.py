"""A sweep on a Dask cluster that was started by hand: workers come late, and die."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import RUNNING
from tests.running import (
    NAMES,
    REPOSITORY,
    TINY,
    figures,
    running,
    stored,
    train_here,
    wait_until,
)


@contextmanager
def dask(program: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of a cluster, for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{program}", *words, "--no-dashboard"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd="/",  # not where the command is given, which relative paths are from
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_cluster_of_workers_that_come_and_go(outputs: Path, tmp_path: Path) -> None:
    place = tmp_path / "scheduler.json"
    steps = ["trainer.num_steps=1500", "trainer.eval_every=0", "trainer.checkpoint_every=50"]

    def at_work() -> int:
        return sum(run.status == RUNNING and run.metrics() != [] for run in all_runs(outputs))

    with ExitStack() as stack:
        own = ["--host", "127.0.0.1"]
        wanted = ["--port", "0", "--scheduler-file", str(place)]
        stack.enter_context(dask("scheduler", *own, *wanted))
        wait_until(place.exists)
        worker = [*own, "--scheduler-file", str(place), "--nthreads", "1", "--no-nanny"]
        stack.enter_context(dask("worker", *worker))
        address = json.loads(place.read_text())["address"]
        words = ["train", "-m", *TINY, f"data.path={NAMES.name}", *steps, "seed=range(5)"]
        words += [f"hydra.launcher.address={address}"]
        launcher = stack.enter_context(running(outputs, *words, cwd=NAMES.parent))
        wait_until(lambda: at_work() == 1 or launcher.poll() is not None)
        late = stack.enter_context(dask("worker", *worker))
        wait_until(lambda: at_work() == 2 or launcher.poll() is not None)
        late.kill()
        said = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, said
    assert "5 jobs: 5 finished" in said[0]
    assert [run.info.status for run in stored(outputs)] == ["FINISHED"] * 6
    for run in all_runs(outputs):
        seed = run.config["seed"]
        _, alone = train_here(tmp_path, *steps, f"seed={seed}", "tracking=none", name=str(seed))
        assert figures(run) == figures(alone)
