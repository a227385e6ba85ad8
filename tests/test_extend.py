"""A finished run that gets more steps is what a longer run would have been."""

from pathlib import Path

import pytest

from microgpt.extend import lengthened
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED
from microgpt.terminal import ConfigError
from tests.conftest import Here
from tests.running import figures, replace, resume_here, stored, train_as, train_here

SHORT = ["trainer.num_steps=8", "engine=native", "data.test_fraction=0.2"]
LONG = [*SHORT, "trainer.num_steps=20"]
CONSTANT = ["schedule=constant", "schedule.warmup_steps=3"]


def same(longer: RunFolder, whole: RunFolder) -> None:
    assert longer.status == FINISHED
    assert figures(longer) == figures(whole)
    assert longer.samples() == whole.samples()
    for key in ("signature", "source", "parameters_sha256", "num_steps", "data", "name"):
        assert longer.info[key] == whole.info[key], key


@pytest.mark.parametrize(
    "every", ["3", "4"]
)  # the end of the short run is logged anyway, or is not
@pytest.mark.parametrize("schedule", [CONSTANT, ["schedule=inverse_sqrt"]])
def test_more_steps(every: str, schedule: list[str], tmp_path: Path) -> None:
    words = [
        *schedule,
        f"trainer.log_every={every}",
        f"trainer.eval_every={every}",
        "tracking=none",
    ]
    _, whole = train_here(tmp_path / "whole", *LONG, *words)
    _, run = train_here(tmp_path / "outputs", *SHORT, *words)
    resume_here(tmp_path / "outputs", "here", "trainer.num_steps=20")
    same(run, whole)
    assert run.config["trainer"]["num_steps"] == 20


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("default", "num_steps=20"),
        ("schedule=constant", "schedule=constant num_steps=20"),
        ("num_steps=8 seed=8", "num_steps=20 seed=8"),
    ],
)
def test_the_name_is_that_of_the_longer_run(before: str, after: str) -> None:
    assert lengthened(before, 20) == after


@pytest.mark.slow
def test_both_records_are_in_the_store_and_verified(outputs: Path, here: Here) -> None:
    _, run = train_here(outputs, *SHORT, *CONSTANT)
    first = run.mlflow_run_id
    resume_here(outputs, "here", "trainer.num_steps=20")
    names = {each.info.run_name for each in stored(outputs)}
    assert names == {run.info["name"], run.info["name"].replace("=20", "=8")}
    assert here(outputs, "sample", "here", "-n", "1")[1] == ""
    for mlflow_id in (first, run.mlflow_run_id):
        here(outputs, "verify", mlflow_id)


@pytest.mark.parametrize(
    ("trained", "more", "problem"),
    [
        (["schedule=linear"], "20", "its schedule ends with the run; a run that branches off: "),
        (
            ["schedule=linear"],
            f"1{'0' * 15}",
            "its schedule ends with the run",
        ),  # without a list of them
        (CONSTANT, "8", "the run has 8 steps already$"),
        (CONSTANT, "many", "must be an integer"),
        ([*CONSTANT, "trainer.checkpoint_every=0"], "20", "no checkpoint of its last step"),
        ([*CONSTANT, "trainer.stop_after=5"], "20", "only a finished run can get more steps"),
    ],
)
def test_what_cannot_be_longer_is_told_how_to_fork(
    trained: list[str], more: str, problem: str, tmp_path: Path
) -> None:
    _, run = train_here(tmp_path, *SHORT, *trained, "tracking=none")
    before = run.info, run.metrics_path.read_bytes()
    with pytest.raises(ConfigError, match=problem):
        train_as(tmp_path, tmp_path / "unused", "resume=here", f"trainer.num_steps={more}")
    assert (run.info, run.metrics_path.read_bytes()) == before


def test_the_run_of_a_sweep_stays_as_long_as_its_question(tmp_path: Path) -> None:
    _, run = train_here(tmp_path, *SHORT, *CONSTANT, "tracking=none")
    run.update(sweeps={"0123": "n_head=2"})
    with pytest.raises(ConfigError, match="one of a sweep"):
        train_as(tmp_path, tmp_path / "unused", "resume=here", "trainer.num_steps=20")


def test_stopped_before_its_next_checkpoint(tmp_path: Path) -> None:
    """The checkpoint that it goes on from is that of the shorter run."""
    words = [*CONSTANT, "tracking=none"]
    _, whole = train_here(tmp_path / "whole", *LONG, *words)
    _, run = train_here(tmp_path / "outputs", *SHORT, *words)
    resume_here(tmp_path / "outputs", "here", "trainer.num_steps=20", "trainer.stop_after=9")
    (run.path / "checkpoints/step-9.safetensors").unlink()  # as if it had been killed
    resume_here(tmp_path / "outputs", "here")
    same(run, whole)


def test_killed_just_after_it_began_to_be_longer(tmp_path: Path) -> None:
    """The configuration was written, and nothing else: the same command goes on."""
    words = [*CONSTANT, "tracking=none"]
    _, whole = train_here(tmp_path / "whole", *LONG, *words)
    _, run = train_here(tmp_path / "outputs", *SHORT, *words)
    replace(run.path / "config.yaml", "num_steps: 8", "num_steps: 20")
    resume_here(tmp_path / "outputs", "here", "trainer.num_steps=20")
    same(run, whole)
