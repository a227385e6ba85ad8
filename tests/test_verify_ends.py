"""Runs that were stopped, killed, or whose data and classes are gone, trained again."""

import shutil
import signal
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

from microgpt.core.trainer import Trainer
from microgpt.run.record import KILLED, STOPPED
from microgpt.tracking import sync
from tests.conftest import Verify
from tests.running import (
    NAMES,
    SHORT,
    TINY,
    has_reached,
    kill,
    only_run,
    replace,
    resume_here,
    start,
    train_here,
    wait_until,
)


def test_a_run_that_was_stopped_and_resumed(outputs: Path, verify: Verify) -> None:
    _, run = train_here(outputs, *SHORT, "trainer.stop_after=7")
    code, said = verify(outputs, "here")
    assert code == 0, said
    assert "bit-exact: 7 steps, 21 figures, 3 samples, parameters " in said
    resume_here(outputs, run.path, "trainer.stop_after=null")
    code, said = verify(outputs, "here")
    assert code == 0, said
    assert "bit-exact: 12 steps, 40 figures, 3 samples, parameters " in said


def test_a_run_that_was_stopped_before_its_first_step(
    outputs: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Trainer) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "run", interrupted)
        _, run = train_here(outputs, *SHORT)
    assert run.info["stopped_at"] == "step 0 of 12"
    code, said = verify(outputs, "here")
    assert (code, "stopped before its first step: there is nothing" in said) == (2, True), said


def test_a_run_that_diverged(outputs: Path, verify: Verify) -> None:
    words = ["optimizer=sgd", "optimizer.lr=1e200", "trainer.num_steps=30"]
    code, run = train_here(outputs, *words)
    assert code == 1
    code, said = verify(outputs, "here")
    assert code == 0, said
    assert f"failed as recorded ({run.info['reason']})" in said
    artifacts = outputs / "artifacts/microgpt" / run.mlflow_run_id / "artifacts"
    replace(artifacts / "run.json", run.info["reason"], "grad_norm is inf")
    code, said = verify(outputs, "here")
    assert (code, "diverged in the end\n" in said) == (1, True), said


def test_runs_that_were_interrupted_and_killed(outputs: Path, verify: Verify) -> None:
    words = ["train", *TINY, "trainer.num_steps=100000", "trainer.checkpoint_every=50"]
    process = start(outputs, *words)
    wait_until(lambda: has_reached(outputs, 60))
    process.send_signal(signal.SIGINT)
    process.communicate()
    run = only_run(outputs)
    assert run.status == STOPPED
    code, said = verify(outputs, run.path.name)
    assert code == 0, said
    step = run.info["stopped_at"].split()[1]
    assert f"bit-exact: {step} steps, " in said
    assert " samples, " not in said
    assert run.info["parameters_sha256"][:12] in said
    process = start(outputs, "train", f"resume={run.path.name}")
    wait_until(lambda: has_reached(outputs, int(step) + 60))
    kill(process)
    assert run.status == KILLED
    list(sync([run], None, outputs))
    code, said = verify(outputs, run.path.name)
    assert code == 0, said
    assert f"bit-exact: {int(run.metrics()[-1]['step'])} steps, " in said
    assert ", parameters " not in said


def test_data_that_are_gone(
    outputs: Path, tmp_path: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgpt.run.documents.DOCUMENTS_LIMIT", 10)
    data = tmp_path / "mine.txt"
    shutil.copy(NAMES, data)
    _, run = train_here(outputs, *SHORT, f"data.path={data}")
    data.rename(tmp_path / "moved.txt")
    code, said = verify(outputs, "here")
    assert code == 2
    last = said.splitlines()[-1]
    assert last.startswith(f"microgpt: cannot run again: data.path='{data}': ")
    assert last.endswith(
        f"give its 64 documents with --data FILE, one a line, sha256 {run.info['data']['digest']}"
    )
    assert verify(outputs, "here", "--data", tmp_path / "moved.txt")[0] == 0
    data.write_text("anna\nbert\n")
    code, said = verify(outputs, "here")
    assert (code, f"data={data}: other documents than the run's; give its" in said) == (2, True)


def test_a_class_that_is_gone(
    outputs: Path, tmp_path: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    module = tmp_path / "mine/slow_adam.py"
    module.write_text(
        "from microgpt.core.optim.adam import Adam\nclass SlowAdam(Adam):\n    '''Adam.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "mine")
    invalidate_caches()
    _, run = train_here(outputs, *SHORT, "optimizer._target_=slow_adam.SlowAdam")
    words = "here", "--trust", "slow_adam"
    assert verify(outputs, *words)[0] == 0
    module.unlink()
    del sys.modules["slow_adam"]
    invalidate_caches()
    shutil.rmtree(tmp_path / "mine/__pycache__", ignore_errors=True)
    code, said = verify(outputs, *words)
    assert code == 2
    assert "microgpt: cannot run again: optimizer._target_='slow_adam.SlowAdam': cannot be" in said
    assert f"the record is of commit {run.info['git']['commit']}: check it out" in said
