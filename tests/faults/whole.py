"""What must hold after any fault, and the processes that it is done to."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FINISHED
from tests.running import REPOSITORY, figures, history, recorded, store, stored

# Of a run that takes a second: 300 steps, with six checkpoints.
STEPS = ["trainer.num_steps=300", "trainer.log_every=2", "trainer.eval_every=50"]
STEPS += ["trainer.checkpoint_every=50"]
NOTHING = lambda: None  # noqa: E731
PROGRAM = "from microgpt.cli import main; main()"


def samples(few: int, many: int) -> pytest.MarkDecorator:
    """How often a fault is injected: a few times in the slow tier, if at all; many in the soak tier."""
    values = [pytest.param(many, marks=pytest.mark.soak, id="many")]
    if few:
        values.append(pytest.param(few, marks=pytest.mark.slow, id="few"))
    return pytest.mark.parametrize("times", values)


def begin(
    outputs: Path, *words: str, first: str = "", **environment: str
) -> "subprocess.Popen[str]":
    """`microgpt <words>` in a session of its own, after the program `first`."""
    places = {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", first + PROGRAM, *words],
        env=os.environ | places | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]", *codes: int, patience: float = 600) -> str:
    """What a command said; it must end with one of these exit codes, without a traceback."""
    out, err = process.communicate(timeout=patience)
    assert "Traceback" not in out + err, out + err
    assert process.returncode in codes, (process.returncode, out, err)
    return out + err


def family_of(place: Path) -> list[psutil.Process]:
    """The processes, other than this one, whose outputs are in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            outputs = process.environ().get("MICROGPT_OUTPUTS", "")
            gone = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if process.pid != os.getpid() and Path(outputs).is_relative_to(place) and not gone:
            found.append(process)
    return found


def module_of(process: psutil.Process) -> str:
    """`serve` for a worker, `sending` for a process that sends, else nothing."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return ""
    return next((word.rpartition(".")[2] for word in words if word.startswith("microgpt.")), "")


def kill(process: "subprocess.Popen[str]", everything: bool, outputs: Path) -> bool:
    """kill -9 of a command, perhaps with all that it has started; whether it was still there.

    None of the others has a semaphore with a name, which would be left.
    """
    others = family_of(outputs) if everything else []
    was_there = process.poll() is None
    process.kill()
    for other in others:
        try:
            assert not any("/dev/shm" in each.path for each in other.memory_maps())
            other.kill()
        except psutil.Error:
            continue
    out, err = process.communicate()
    assert "Traceback" not in out + err, out + err
    return was_there and process.returncode == -signal.SIGKILL


def kill_often(
    times: range,
    span: float,
    outputs: Path,
    words: Sequence[str],
    look: Callable[[], None] = NOTHING,
) -> int:
    """kill -9 of a command, again and again, each time at a moment of its first `span` seconds.

    Every second time with all its processes. `look` is called after each. Returns how often it died of it.
    """
    dead = 0
    for i in times:
        process = begin(outputs, *words)
        time.sleep(random.Random(i).uniform(0, span))
        dead += kill(process, i % 2 == 1, outputs)
        look()
    return dead


def seconds_of(outputs: Path, *words: str) -> float:
    """How long a command takes that nobody disturbs; its outputs are deleted."""
    begun = time.monotonic()
    ended(begin(outputs, *words), 0)
    took = time.monotonic() - begun
    shutil.rmtree(outputs)
    return took


def check_store(
    outputs: Path, runs: Sequence[RunFolder] | None = None, experiment: str = "microgpt"
) -> int:
    """Every figure of every run stands in the store once; returns how many figures those are."""
    runs = all_runs(outputs) if runs is None else runs
    there = [run for run in stored(outputs, experiment) if "sweep.id" not in run.data.tags]
    assert sorted(run.info.run_id for run in there) == sorted(run.mlflow_run_id for run in runs)
    statuses = {run.info.run_id: run.info.status for run in there}
    client, count = store(outputs), 0
    for run in runs:
        assert statuses[run.mlflow_run_id] == "FINISHED"
        count += check_figures(client, run)
    return count


def check_figures(client: MlflowClient, run: RunFolder) -> int:
    """Every figure of a run stands in the store once; returns how many figures those are.

    The clock of a step that was trained again may be that of the first time.
    """
    found, kept = history(client, run.mlflow_run_id), recorded(run)
    assert found.keys() == kept.keys()
    for name, points in found.items():
        if name.startswith("cost/"):
            assert [step for step, _ in points] == [step for step, _ in kept[name]]
        else:
            assert points == kept[name], name
    return sum(map(len, found.values()))


def check_equal(runs: Sequence[RunFolder], whole: RunFolder | Mapping[str, Any]) -> None:
    """Runs are finished, and equal one, or those of their names, that nobody disturbed."""
    for run in runs:
        assert run.status == FINISHED
        right = figures(whole) if isinstance(whole, RunFolder) else whole[run.path.name]
        assert figures(run) == right
