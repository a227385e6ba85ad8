"""A run that was killed, stopped or interrupted goes on as if nothing had happened."""

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from microgpt.core.events import Event, Sampled, Stepped
from microgpt.run.checkpoint import read_checkpoint
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED, KILLED, STOPPED
from tests.command import Within
from tests.conftest import Here
from tests.running import (
    NAMES,
    TINY,
    figures,
    has_reached,
    has_stored,
    history,
    kill,
    only_run,
    recorded,
    resume_here,
    running,
    start,
    store,
    stored,
    train_here,
    wait_until,
)
from tests.schedules import GATE

STEPS = 400  # a second or so
OVERRIDES = [f"trainer.num_steps={STEPS}", "trainer.log_every=2", "trainer.eval_every=50"]
OVERRIDES += ["trainer.checkpoint_every=50"]
WORDS = ["train", *TINY, *OVERRIDES]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that nobody killed."""
    return train_here(tmp_path_factory.mktemp("undisturbed"), *OVERRIDES, "tracking=none")[1]


def kill_at(outputs: Path, step: int, *words: str) -> None:
    """Start or resume a run, and kill it when it has recorded `step`."""
    process = start(outputs, *words)
    wait_until(lambda: has_reached(outputs, step))
    kill(process)


def check_store(outputs: Path, run: RunFolder) -> None:
    """The store has one run, finished, with each figure of the folder once."""
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert there.info.run_id == run.mlflow_run_id
    assert there.data.tags["parameters_sha256"] == run.info["parameters_sha256"]
    assert "reason" not in there.data.tags
    found, kept = history(store(outputs), there.info.run_id), recorded(run)
    assert found.keys() == kept.keys()
    for name, steps in found.items():
        if name.startswith("cost/"):  # of the run that was killed, perhaps
            assert [step for step, _ in steps] == [step for step, _ in kept[name]]
        else:
            assert steps == kept[name]


def test_killed_again_and_again(tmp_path: Path, undisturbed: RunFolder) -> None:
    rng = random.Random()
    moments = sorted(rng.sample(range(1, STEPS - 100), 3))
    kill_at(tmp_path, moments[0], *WORDS, "tracking=none")
    run = only_run(tmp_path)
    assert run.status == KILLED
    names = [run.path.name, run.path.name[:-2]]
    for moment, name in zip(moments[1:], names):
        kill_at(tmp_path, moment, "train", f"resume={name}")
    resume_here(tmp_path, run.path.name)
    assert figures(run) == figures(undisturbed), moments


@pytest.mark.soak
def test_killed_again_and_again_in_a_store(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    words = [*OVERRIDES, "schedule=constant", "schedule._target_=tests.schedules.Held"]
    _, whole = train_here(outputs.parent / "whole", *words, "tracking=none")
    gate.touch()  # so that something is in the store long before the end
    kill_at(outputs, 10, "train", *TINY, *words)  # before the store is open
    run = only_run(outputs)
    process = start(outputs, "train", f"resume={run.path}", "--trust=tests")
    wait_until(lambda: has_stored(outputs, 10))
    kill(process)
    gate.unlink()
    process = start(outputs, "train", f"resume={run.mlflow_run_id}", "--trust=tests")
    wait_until(lambda: (run.path / "checkpoints/step-200.safetensors").exists())
    kill(process)
    resume_here(outputs, run.path.name)
    assert figures(run) == figures(whole)
    check_store(outputs, run)


def test_killed_before_the_first_checkpoint(
    tmp_path: Path, undisturbed: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(tmp_path, 5, *WORDS, "tracking=none")
    run = only_run(tmp_path)
    assert run.checkpoints() == []
    resume_here(tmp_path, run.path.name)
    assert "goes on after step 0" in capsys.readouterr().out
    assert figures(run) == figures(undisturbed)


KILLED_SAMPLING = """
import os, signal
from microgpt.core.sampling import Sampler
Sampler.samples = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_between_the_last_checkpoint_and_the_end(tmp_path: Path) -> None:
    words = ["trainer.num_steps=20", "tracking=none"]
    _, whole = train_here(tmp_path / "whole", *words)
    process = start(tmp_path / "killed", "train", *TINY, *words, first=KILLED_SAMPLING)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    run = only_run(tmp_path / "killed")
    assert run.checkpoints()[0].name == "step-20.safetensors"
    assert not (run.path / "samples.txt").exists()
    resume_here(tmp_path / "killed", run.path)
    assert figures(run) == figures(whole)


def test_a_torn_checkpoint_costs_a_few_steps_only(tmp_path: Path, undisturbed: RunFolder) -> None:
    kill_at(tmp_path, 180, *WORDS, "tracking=none")
    run = only_run(tmp_path)
    last = run.checkpoints()[0]
    last.write_bytes(last.read_bytes()[:-1])
    with run.metrics_path.open("a") as file:
        file.write('{"step": 8')
    resume_here(tmp_path, run.path.name)
    assert figures(run) == figures(undisturbed)


def test_the_original_is_resumed_with_its_single_stream(tmp_path: Path) -> None:
    words = ["experiment=original", "trainer.num_steps=60", "trainer.checkpoint_every=20"]
    words += [*TINY[:-1], "sampling.num_samples=5", "tracking=none"]
    _, whole = train_here(tmp_path / "whole", *words)
    kill_at(tmp_path / "killed", 30, "train", *words)
    run = only_run(tmp_path / "killed")
    resume_here(tmp_path / "killed", run.path.name)
    assert figures(run) == figures(whole)


def test_stopped_on_purpose_and_resumed(outputs: Path, undisturbed: RunFolder) -> None:
    code, run = train_here(outputs, *OVERRIDES, "trainer.stop_after=60")
    assert code == 0
    assert (run.status, run.info["stopped_at"]) == (STOPPED, f"step 60 of {STEPS}")
    assert run.metrics()[-1]["lr"] == undisturbed.metrics()[29]["lr"]  # of the whole schedule
    (there,) = stored(outputs)
    assert there.info.status == "KILLED"
    assert there.data.tags["stopped_at"] == f"step 60 of {STEPS}"
    resume_here(outputs, run.path.name, "trainer.stop_after=90")
    assert run.info["stopped_at"] == f"step 90 of {STEPS}"
    resume_here(outputs, run.path.name)
    assert figures(run) == figures(undisturbed)
    check_store(outputs, run)
    assert "stopped_at" not in stored(outputs)[0].data.tags


@pytest.mark.parametrize(
    ("number", "code", "tracking"),
    [(signal.SIGINT, 130, "mlflow"), (signal.SIGTERM, 143, "none")],
)
def test_interrupted_and_resumed(
    outputs: Path, undisturbed: RunFolder, number: signal.Signals, code: int, tracking: str
) -> None:
    with running(outputs, *WORDS, f"tracking={tracking}") as process:
        wait_until(lambda: has_reached(outputs, 10))
        process.send_signal(number)
        said, complained = process.communicate()
    assert (process.returncode, complained) == (code, "")
    run = only_run(outputs)
    assert run.status == STOPPED
    found = read_checkpoint(run.checkpoints()[0])
    assert 0 <= found.step - run.metrics()[-1]["step"] < 2
    assert f"go on: microgpt train resume={run.path.name}" in said
    assert not (run.path / "samples.txt").exists()
    assert [there.info.status for there in stored(outputs)] == ["KILLED"] * (tracking == "mlflow")
    resume_here(outputs, run.path.name)
    assert figures(run) == figures(undisturbed)
    if tracking == "mlflow":
        check_store(outputs, run)


class Signals:
    """Sends this process a signal at an event; stands in for what shows a run."""

    def __init__(self, kind: type[Event], step: int, times: int) -> None:
        self.kind, self.step, self.times = kind, step, times

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        if isinstance(event, self.kind) and getattr(event, "step", self.step) == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("kind", "step", "times", "status"),
    [
        (Stepped, 30, 1, STOPPED),  # in the last step: the samples are still to be drawn
        (Sampled, 0, 1, FINISHED),  # when all is done
        (Stepped, 12, 2, STOPPED),  # twice: at once, without a checkpoint
    ],
)
def test_wherever_an_interrupt_falls(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Event],
    step: int,
    times: int,
    status: str,
) -> None:
    words = ["tracking=none", "trainer.num_steps=30", "trainer.checkpoint_every=10"]
    _, whole = train_here(tmp_path, *words, name="whole")
    monkeypatch.setattr("microgpt.one_run.watcher", lambda *_: Signals(kind, step, times))
    code, run = train_here(tmp_path, *words, name="interrupted")
    assert (code, run.status) == (130, status)
    monkeypatch.undo()
    resume_here(tmp_path, run.path)
    assert figures(run) == figures(whole)


def test_a_finished_run_has_nothing_to_resume(tmp_path: Path, here: Here) -> None:
    _, run = train_here(tmp_path, "tracking=none", "trainer.num_steps=3", name="20261124")
    before = {file: file.stat().st_mtime_ns for file in run.files()}
    said, _ = here(tmp_path, "train", "resume=20261124")  # an id that looks like a number
    assert said == "run 20261124 is finished: nothing to resume\n"
    assert {file: file.stat().st_mtime_ns for file in run.files()} == before
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["20261124"]


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Gives the one line that a resume is refused with."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path))
    within = Within(monkeypatch, capfd)

    def refused(*words: str) -> str:
        ended = within("train", *words)
        assert (ended.code, ended.out) == (2, "")
        (line,) = ended.err.splitlines()
        return line.removeprefix("microgpt: ")

    return refused


def test_a_finished_run_whose_store_lags_behind(outputs: Path) -> None:
    """The process died between the end of the training and the last word to the store."""
    _, run = train_here(outputs, "trainer.num_steps=9")
    store(outputs).update_run(run.mlflow_run_id, "RUNNING")
    resume_here(outputs, run.path)
    check_store(outputs, run)


def test_what_a_resume_refuses(tmp_path: Path, refused: Callable[..., str]) -> None:
    words = ["tracking=none", "trainer.num_steps=9", "trainer.stop_after=3"]
    data = tmp_path / "names.txt"
    shutil.copy(NAMES, data)
    _, run = train_here(tmp_path, *words, f"data.path={data}", name="20261124-1")
    before = run.metrics_path.read_bytes()
    line = refused(f"resume={run.path}", "optimizer.lr=0.1")
    assert line == (
        "optimizer.lr=0.1: a resumed run keeps its own; "
        "only trainer.num_steps, progress, trainer.stop_after, tracking may change"
    )
    assert "seed=1: a resumed run keeps its own" in refused(f"resume={run.path}", "seed=1")
    assert "nobody: no such run" in refused("resume=nobody")
    with run.locked():
        assert "another process is at work" in refused(f"resume={run.path}")
    with (run.path / "documents.txt").open("a") as documents:
        documents.write("zoe\n")
    assert "trained on other documents" in refused(f"resume={run.path}")
    (run.path / "documents.txt").unlink()  # where they were too many to keep
    data.unlink()
    assert "data.path" in refused(f"resume={run.path}")
    assert run.metrics_path.read_bytes() == before
    assert run.status == STOPPED
    assert len([*(tmp_path / "runs").iterdir()]) == 1


def test_a_resume_finds_its_data_from_anywhere(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(NAMES, tmp_path / "names.txt")
    words = [*TINY, "tracking=none", "trainer.num_steps=9", "data.path=names.txt"]
    outputs = tmp_path / "outputs"
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        here(outputs, "train", *words, "trainer.stop_after=3")
    here(outputs, "train", f"resume={only_run(outputs).path.name}")
    assert only_run(outputs).status == FINISHED


def test_a_resume_with_other_code_says_so(tmp_path: Path, here: Here) -> None:
    _, run = train_here(tmp_path, "tracking=none", "trainer.num_steps=9", "trainer.stop_after=3")
    new = run.info["source"]
    run.update(source="old")
    _, complained = here(tmp_path, "train", f"resume={run.path}")
    assert complained.startswith("microgpt: the code has changed: after step 3 ")
    assert run.info["source"] == f"old to step 3, then {new}"


def test_a_resume_on_another_machine_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, run = train_here(tmp_path, "tracking=none", "trainer.num_steps=9", "trainer.stop_after=3")
    libm = run.info["fingerprint"]["libm"]
    run.update(fingerprint=run.info["fingerprint"] | {"libm": "other"})
    resume_here(tmp_path, run.path, "trainer.stop_after=6")
    resume_here(tmp_path, run.path)
    assert capfd.readouterr().err.count("libm has changed: after step 3 ") == 1
    assert run.info["fingerprint"]["libm"] == f"other to step 3, then {libm}"


def test_a_run_without_tracking_may_be_tracked_when_resumed(outputs: Path) -> None:
    _, run = train_here(outputs, "tracking=none", "trainer.num_steps=9", "trainer.stop_after=3")
    resume_here(outputs, run.path, "tracking=mlflow")
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert history(store(outputs), there.info.run_id) == recorded(run)
