"""The worker processes of a sweep: out of reach for others, replaced when they grow, gone when it ends."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from microgpt.sweep.job import Assignment
from microgpt.sweep.pool import Pool
from microgpt.sweep.worker import Task
from microgpt.terminal import WRONG_INPUT
from tests.running import TINY, microgpt, running, wait_until

SWEEP = ("train", "-m", *TINY, "trainer.eval_every=0", "trainer.checkpoint_every=0")
LONG = (*SWEEP, "trainer.num_steps=100000", "seed=1,2,3", "hydra.launcher.workers=2")
# Before Python has come up, Ctrl-C is for it.
PROGRAM = "from microgpt.cli import main; print('up', flush=True); main()"


def at_work(outputs: Path) -> int:
    """How many jobs have recorded steps."""
    return sum(run.metrics() != [] for run in all_runs(outputs))


def unborn(outputs: Path) -> list[str]:
    """Folders in which no run began."""
    return [path.name for path in outputs.glob("runs/*") if not (path / "run.json").exists()]


@contextmanager
def sweeping(outputs: Path) -> Iterator["tuple[subprocess.Popen[str], list[psutil.Process]]"]:
    """A sweep of long jobs that are under way, and the processes that it has started."""
    with running(outputs, *LONG) as launcher:
        wait_until(lambda: at_work(outputs) == 2 or launcher.poll() is not None)
        yield launcher, psutil.Process(launcher.pid).children(recursive=True)


def workers(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [each for each in family if "microgpt.sweep.serve" in each.cmdline()]


@pytest.mark.slow
def test_a_worker_that_grows_is_replaced(outputs: Path) -> None:
    growing = ["schedule=constant", "schedule._target_=tests.schedules.Growing"]
    limit = ["hydra.launcher.workers=1", "hydra.launcher.memory_limit=150MB"]
    words = [*SWEEP, *growing, *limit, "trainer.num_steps=2", "seed=range(8)", "tracking=none"]
    said, complained = microgpt(outputs, *words)
    assert complained == ""
    assert "8 jobs: 8 finished\n" in said
    replaced = (
        r"(seed=\d: its|a) worker had \d+ MB of at most 150; another (goes on|takes its place)\n"
    )
    assert re.search(replaced, said)
    assert [run.status for run in all_runs(outputs)] == [FINISHED] * 8


@pytest.mark.slow
def test_a_worker_that_was_killed_gets_no_job(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its death would count against a job that it never had."""
    (outputs / "runs/damaged/.lock").mkdir(parents=True)  # the job ends at once
    facts = {"run": "damaged", "name": "damaged"}
    job = Assignment("s", facts, {"paths": {"outputs": str(outputs)}})
    pool = Pool(1, sys.maxsize)
    pool.workers[0].kill("grew")
    try:
        assert pool.run([Task(job, 0, "launch", ".", {}, None, None)], []) == [WRONG_INPUT]
    finally:
        pool.close()
    assert pool.deaths.total() == 0
    assert capsys.readouterr().out == "a worker grew; another takes its place\n"


@pytest.mark.slow
def test_nobody_else_reaches_a_sweep(outputs: Path) -> None:
    """No address is listened at that another user could connect to, and no semaphore has a name."""
    with sweeping(outputs) as (launcher, family):
        assert len(workers(family)) == 2
        for each in [psutil.Process(launcher.pid), *family]:
            assert each.net_connections("inet") == []
            assert not any("/dev/shm" in mapped.path for mapped in each.memory_maps())


@pytest.mark.parametrize(
    "count", [pytest.param(2, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_is_stopped_while_it_begins(
    outputs: Path, number: signal.Signals, count: int
) -> None:
    """The whole process group gets the signal, as from a terminal or a batch system."""
    for i in range(count):
        moment = random.Random(i).uniform(0.1, 3)
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *LONG, "tracking=none"],
            env=os.environ | {"MICROGPT_OUTPUTS": str(outputs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(moment)
        os.killpg(process.pid, number)
        said, complained = process.communicate(timeout=100)
        assert process.returncode == 128 + number, (moment, said, complained)
        assert complained in ("", "microgpt: interrupted\n"), moment
        assert unborn(outputs) == [], moment
