"""Sweeps whose jobs break off, whose steps hang, and that have done their jobs somewhere else."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run

from microgpt.run.checkpoint import read_checkpoint
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FAILED, FINISHED, STOPPED
from microgpt.run.sweep import all_sweeps
from tests.conftest import Here
from tests.running import (
    COMMAND,
    NAMES,
    REPOSITORY,
    figures,
    stored,
    wait_until,
)
from tests.schedules import GATE, HELD_FROM
from tests.test_tracking_server import free_port, serving

SMALL = [
    *("train", "-m", f"data.path={NAMES}", "model.n_embd=4", "model.n_head=2"),
    *("model.block_size=4", "trainer.log_every=1", "trainer.eval_every=0"),
    *("trainer.checkpoint_every=0", "trainer.eval_documents=5", "sampling.num_samples=3"),
    "schedule=constant",
]
BASIC = "hydra/launcher=basic"
OURS = "tests.schedules"


def gate(outputs: Path) -> Path:
    """While this file is there, runs are held."""
    return outputs.with_name("gate")


def begin(outputs: Path, *words: str) -> "subprocess.Popen[str]":
    """A sweep as a shell begins it: in a process group of its own."""
    places = {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *SMALL, *words],
        env=os.environ | places | {GATE: str(gate(outputs))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]", code: int) -> tuple[str, str]:
    """What a sweep said; it must end with `code`, and leave no process behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    try:
        said = process.communicate(timeout=300)
        wait_until(lambda: not any(each.is_running() for each in family))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, said
    return said


def by_name(outputs: Path) -> dict[str, RunFolder]:
    return {run.info["name"]: run for run in all_runs(outputs)}


def children(outputs: Path) -> dict[str, Run]:
    """The runs below the sweep, by name."""
    return {
        run.info.run_name: run
        for run in stored(outputs)
        if "microgpt.id" in run.data.tags and "sweep.id" not in run.data.tags
    }


def held(outputs: Path) -> int:
    """How many runs have come to the steps that are held."""
    return sum(len(run.metrics()) >= HELD_FROM for run in all_runs(outputs))


def beside_remarks(complaints: str) -> list[str]:
    """The lines that do not speak of the data, whose documents are cut here."""
    return [line for line in complaints.splitlines() if "cuts off" not in line]


def test_faults_of_the_program(outputs: Path, here: Here) -> None:
    kinds = "microgpt.core.schedule.constant.Constant", f"{OURS}.Raising", f"{OURS}.Exhausted"
    words = [BASIC, "trainer.num_steps=8", f"schedule._target_={','.join(reversed(kinds))}"]
    said, complaints = here(outputs, *SMALL, *words, code=1)
    whole, raising, exhausted = (f"_target_={kind}" for kind in kinds)
    assert "3 jobs: 1 finished, 2 failed\n" in said
    assert sorted(beside_remarks(complaints)) == [
        f"microgpt: {exhausted} failed: MemoryError",
        f"microgpt: {raising} failed: LookupError: a fault in two lines",
    ]
    runs, there = by_name(outputs), children(outputs)
    assert {name: run.status for name, run in runs.items()} == {
        whole: FINISHED,
        raising: FAILED,
        exhausted: FAILED,
    }
    assert {name: run.info.status for name, run in there.items()} == {
        whole: "FINISHED",
        raising: "FAILED",
        exhausted: "FAILED",
    }
    assert there[raising].data.tags["failed_at"] == "4"
    assert there[raising].data.tags["reason"] == "LookupError: a fault in two lines"
    assert there[exhausted].data.tags["failed_at"] == "0"
    assert "in decay\n" in (runs[raising].path / "traceback.txt").read_text()
    # Another sweep does again what failed, and both belong to it.
    words[-1] = f"schedule._target_={','.join(kinds[:2])}"
    said, _ = here(outputs, *SMALL, *words, code=1)
    assert "2 jobs: 1 finished before, skipped, 1 failed before, done again\n" in said
    again = children(outputs)
    assert {run.info.run_id for run in there.values()} == {
        run.info.run_id for run in again.values()
    }
    (second,) = {tag for tag in again[raising].data.tags if tag.startswith("sweep.")} - set(
        there[raising].data.tags
    )
    assert {name for name in again if second in again[name].data.tags} == {raising, whole}


@pytest.mark.slow
def test_out_of_memory(outputs: Path) -> None:
    kinds = f"schedule._target_={OURS}.Hungry,microgpt.core.schedule.constant.Constant"
    limit = ["hydra.launcher.memory_limit=700MB", "hydra.launcher.workers=1"]
    said, complaints = ended(begin(outputs, "trainer.num_steps=8", kinds, *limit), 1)
    assert "2 jobs: 1 finished, 1 failed\n" in said
    reason = r"3 workers died of it; the last had 7\d\d MB of at most 700"
    (line,) = beside_remarks(complaints)
    assert re.fullmatch(f"microgpt: _target_={OURS}.Hungry failed: {reason}", line)
    there = {name.rpartition(".")[2]: run for name, run in children(outputs).items()}
    assert there["Constant"].info.status == "FINISHED"
    assert there["Hungry"].info.status == "FAILED"
    assert re.fullmatch(reason, there["Hungry"].data.tags["reason"])


@pytest.mark.slow
def test_interrupted_and_begun_again(
    outputs: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(GATE, str(gate(outputs)))
    words = [BASIC, "schedule._target_=tests.schedules.Held", "trainer.num_steps=40", "seed=1,2"]
    words += ["trainer.checkpoint_every=15"]
    gate(outputs).touch()
    process = begin(outputs, *words)
    wait_until(lambda: held(outputs) == 1 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    ended(process, 130)
    (sweep,) = all_sweeps(outputs)
    with sweep.locked():  # as another launcher would hold it
        said, complaints = here(outputs, *SMALL, *words, code=2)
    under_way = f"microgpt: this sweep is under way: another process is at work in {sweep.path}"
    assert (said, beside_remarks(complaints)) == ("", [under_way])
    (first,) = all_runs(outputs)
    state = read_checkpoint(first.checkpoints()[0])
    assert first.status == STOPPED
    assert HELD_FROM <= state.step < 40
    gate(outputs).unlink()
    said, complaints = here(outputs, *SMALL, *words)
    assert beside_remarks(complaints) == []
    assert "2 jobs: 1 new, 1 begun before, going on\n" in said
    whole = outputs.with_name("whole")
    here(whole, *SMALL, *words, "tracking=none")
    assert {name: figures(run) for name, run in by_name(outputs).items()} == {
        name: figures(run) for name, run in by_name(whole).items()
    }
    assert Counter(run.info.status for run in stored(outputs)) == {"FINISHED": 3}


def test_a_job_that_could_not_begin_is_one_run_in_the_store(
    outputs: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has failed there, and is the same run when it is done again."""
    monkeypatch.setenv(GATE, str(gate(outputs)))
    kinds = f"schedule._target_={OURS}.Absent,microgpt.core.schedule.constant.Constant"
    words = [BASIC, "trainer.num_steps=3", kinds]
    gate(outputs).touch()
    here(outputs, *SMALL, *words, code=1)
    before = children(outputs)
    assert Counter(run.info.status for run in before.values()) == {"FINISHED": 1, "FAILED": 1}
    gate(outputs).unlink()
    here(outputs, *SMALL, *words)
    runs = [run for run in stored(outputs) if "sweep.id" not in run.data.tags]
    assert {run.info.run_id for run in runs} == {run.info.run_id for run in before.values()}
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "reason" not in children(outputs)[f"_target_={OURS}.Absent"].data.tags


@pytest.mark.parametrize("gone", ["runs", ""])
def test_outputs_that_are_deleted_during_a_job(
    gone: str, tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first job's, or those of the whole sweep: a line says what is gone, and the way on."""
    outputs = tmp_path / "outputs"
    monkeypatch.setenv(GATE, str(outputs / gone))
    kinds = f"schedule._target_={OURS}.Deleting,microgpt.core.schedule.constant.Constant"
    words = [BASIC, "tracking=none", "trainer.num_steps=8", kinds]
    said, complaints = here(outputs, *SMALL, *words, code=1)
    (line,) = beside_remarks(complaints)
    if gone:
        (run,) = (run for run in all_runs(outputs) if run.status == FAILED)
        reason = f"{run.path}: deleted during the run: config.yaml, documents.txt, "
        assert run.info["reason"].startswith(reason)
        assert line == f"microgpt: _target_={OURS}.Deleting failed: {run.info['reason']}"
        assert "2 jobs: 1 finished, 1 failed\n" in said
    else:
        advice = "deleted during the sweep; the same command trains what is missing"
        assert re.fullmatch(f"microgpt: {outputs}/sweeps/[^/]*: {advice}", line)
    monkeypatch.setenv(GATE, str(tmp_path / "nothing"))
    said, _ = here(outputs, *SMALL, *words)
    assert {run.status for run in all_runs(outputs)} == {FINISHED}


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(outputs: Path) -> None:
    """Where a step takes longer than one would wait."""
    gate(outputs).touch()
    words = ["schedule._target_=tests.schedules.Stuck", "trainer.num_steps=40", "seed=1,2,3"]
    process = begin(outputs, *words, "hydra.launcher.workers=2")
    wait_until(lambda: held(outputs) == 2 or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert "stopping after the steps under way; once more Ctrl-C ends at once\n" in process.stdout
    os.killpg(process.pid, signal.SIGINT)
    said, _ = ended(process, 130)
    assert "stopped; go on with the same command: " in said
    assert "RUNNING" not in {run.info.status for run in stored(outputs)}


@pytest.mark.parametrize("served", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_another_sweep_elsewhere_takes_over_what_the_store_has(
    served: bool, outputs: Path, tmp_path: Path, here: Here
) -> None:
    """Two machines that share the store alone; their sweeps have jobs in common."""
    with ExitStack() as stack:
        uri = f"sqlite:///{outputs}/mlflow.db"
        if served:
            uri = stack.enter_context(serving(outputs, free_port()))
        check_taken_over(here, outputs, tmp_path / "elsewhere", f"tracking.uri={uri}")


def check_taken_over(here: Here, outputs: Path, elsewhere: Path, address: str) -> None:
    words = [BASIC, "trainer.num_steps=3", address]
    here(outputs, *SMALL, *words, "seed=1,2")
    before = {run.info.run_id: run for run in stored(outputs)}
    said, _ = here(elsewhere, *SMALL, *words, "seed=2,3")
    assert "2 jobs: 1 new, 1 finished before, skipped\n" in said
    assert [run.info["name"] for run in all_runs(elsewhere)] == ["seed=3"]
    there = {run.info.run_id: run for run in stored(outputs)}
    assert len(there) == len(before) + 2  # a sweep and a run
    (folder,) = elsewhere.glob("sweeps/*")
    members = [run for run in there.values() if f"sweep.{folder.name}" in run.data.tags]
    assert sorted(run.info.run_name for run in members) == ["seed=2", "seed=3"]
    (shared,) = (run for run in members if run.info.run_id in before)
    old = before[shared.info.run_id]
    assert shared.data.metrics == old.data.metrics
    assert shared.info.end_time == old.info.end_time
    assert shared.data.tags.items() > old.data.tags.items()
