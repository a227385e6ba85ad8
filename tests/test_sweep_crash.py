"""A sweep that is killed, launcher and workers, at random moments, and started again each time."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from microgpt.run.folder import all_runs
from tests.running import NAMES, REPOSITORY, figures, store, stored, wait_until

WORDS = [
    *("train", "-m", f"data.path={NAMES}", "model.n_embd=8", "model.block_size=9"),
    *("trainer.num_steps=400", "trainer.log_every=5", "trainer.eval_every=50"),
    *("trainer.checkpoint_every=40", "sampling.num_samples=2", "model.n_head=1,2,4"),
    "optimizer.lr=0.01,0.03",
]


def begin(outputs: Path, *words: str) -> "subprocess.Popen[str]":
    """A sweep with its workers, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from microgpt.cli import main; main()", *WORDS, *words],
        env=os.environ | {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(outputs: Path, *words: str) -> str:
    """A sweep that nobody disturbs; what it says."""
    process = begin(outputs, *words)
    said, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, said
    return said


def checkpoints(outputs: Path) -> int:
    return len([*outputs.glob("runs/*/checkpoints/*.safetensors")])


def kill_after(process: "subprocess.Popen[str]", outputs: Path, count: int, wait: float) -> None:
    """kill -9 of the whole group, up to `wait` seconds after it has written so many checkpoints."""
    count += checkpoints(outputs)
    wait_until(lambda: checkpoints(outputs) >= count or process.poll() is not None)
    time.sleep(wait * random.random())
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def records(outputs: Path) -> dict[str, Any]:
    """The figures of every run, by its folder's name."""
    return {run.path.name: figures(run) for run in all_runs(outputs)}


@pytest.mark.parametrize(
    ("jobs", "seeds"),
    [
        pytest.param(6, 1, marks=pytest.mark.slow),
        pytest.param(60, 10, marks=pytest.mark.soak),
    ],
)
def test_killed_three_times_and_started_again(tmp_path: Path, jobs: int, seeds: int) -> None:
    words = [f"seed=range({seeds})"]
    finish(tmp_path / "whole", *words)
    outputs = tmp_path / "killed"
    counts = [random.randint(1, jobs) for _ in range(3)]  # of ten checkpoints a job
    for count in counts:
        kill_after(begin(outputs, *words), outputs, count, wait=jobs / 300)
    said = finish(outputs, *words)
    assert f"{jobs} jobs: " in said
    print(f"{counts=}\n{said}")
    assert records(outputs) == records(tmp_path / "whole")
    runs = stored(outputs)
    (parent,) = [run for run in runs if "sweep.id" in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert Counter(run.info.status for run in children) == {"FINISHED": jobs}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len({run.data.tags["signature"] for run in children}) == jobs
    assert parent.info.status == "FINISHED"
    for child in children:  # no step is there twice
        history = store(outputs).get_metric_history(child.info.run_id, "train/loss")
        assert len({metric.step for metric in history}) == len(history)
