"""`microgpt judge`: pairs of runs, trained until it is known which arm is better."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from microgpt.ablation.judge.arms import Pair, pair_of
from microgpt.run.folder import all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.terminal import ConfigError
from microgpt.tracking.find import find_parent
from microgpt.trust import OURS_ALONE
from tests.command import Ended, Within
from tests.running import NAMES, train_here

TINY = (
    *(f"data.path={NAMES}", "data.val_fraction=0.3", "model.n_head=2", "model.block_size=6"),
    *("trainer.num_steps=30", "trainer.log_every=0", "trainer.eval_every=0"),
    *("trainer.checkpoint_every=0", "sampling.num_samples=0", "optimizer.lr=0.02"),
)
OFFLINE = (*TINY, "tracking=none")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Within:
    """`microgpt ...` in this process, with outputs of its own."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return Within(monkeypatch, capfd)


def judged(run: Within, base: str, candidate: str, *words: str) -> Ended:
    return run("judge", base, candidate, *words, "--workers", "2")


def test_a_wider_model_is_better_and_the_answer_is_kept(run: Within, tmp_path: Path) -> None:
    words = ("model.n_embd=2", "model.n_embd=12", *OFFLINE)
    ended = judged(run, *words)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == "base       n_embd=2, seeds from 42 on"
    assert lines[2].startswith("judged by val/loss on ")
    assert lines[4].split()[0] == "5"
    assert lines[-1].startswith("better: the candidate's loss less the base's is -")
    (sweep,) = all_sweeps(tmp_path / "outputs")
    assert (sweep.status, sweep.info["experiment"]) == ("finished", None)
    assert sweep.protocol is not None
    assert sweep.protocol["content"]["stop"]["looks"][-1] == 50
    runs = {
        r.path: (r.path / "run.json").stat().st_mtime_ns for r in all_runs(tmp_path / "outputs")
    }
    assert len(runs) == len(sweep.jobs) >= 10

    again = judged(run, *words, "--json")  # nothing is trained again
    assert (again.code, again.err.count("microgpt:")) == (0, 0)
    facts = json.loads(again.out)
    assert facts == sweep.info["judged"]
    assert facts["answer"] == "better"
    assert facts["pairs"] * 2 == len(runs)
    differences = [
        candidate - base
        for base, candidate in zip(facts["base"]["losses"], facts["candidate"]["losses"])
    ]
    assert facts["difference"] == pytest.approx(sum(differences) / len(differences))
    assert facts["low"] < facts["difference"] < facts["high"] < 0
    assert {
        r.path: (r.path / "run.json").stat().st_mtime_ns for r in all_runs(tmp_path / "outputs")
    } == runs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "candidate", "more", "answer"),
    [
        ("model.n_embd=12", "model.n_embd=2", (), "worse"),
        ("", "seed=1000", ("model.n_embd=2", "--matters", "9"), "equivalent"),
        ("", "seed=1000", ("model.n_embd=2", "--matters", "1e-6", "--most", "6"), "undecided"),
    ],
)  # fmt: skip
def test_the_other_answers(
    run: Within, base: str, candidate: str, more: Sequence[str], answer: str
) -> None:
    ended = judged(run, base, candidate, *OFFLINE, *more)
    assert ended.code == {"worse": 11, "equivalent": 10, "undecided": 12}[answer]
    assert ended.out.splitlines()[-1].startswith(f"{answer}: ")


@pytest.mark.slow
def test_arms_with_a_test_part_are_judged_on_it(run: Within) -> None:
    parts = ("data.test_fraction=0.3", "trainer.eval_documents=0", "--most", "5", "--json")
    facts = json.loads(judged(run, "model.n_embd=2", "model.n_embd=4", *OFFLINE, *parts).out)
    assert facts["metric"] == "test/loss"
    assert facts["documents"] > 5


@pytest.mark.slow
def test_a_run_that_fails_ends_it(run: Within) -> None:
    ended = judged(run, "", "optimizer=sgd optimizer.lr=1e300", *OFFLINE, "model.n_embd=4")
    assert ended.code == 1
    assert "failed: " in ended.err
    assert "optimizer=sgd" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.slow
def test_it_is_tracked_as_a_sweep(
    outputs: Path, run: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    words = ("model.n_embd=2", "seed=1000 model.n_embd=2", *TINY, "--matters", "1e-6")
    assert judged(run, *words, "--most", "9").code == 12
    (sweep,) = all_sweeps(outputs)
    client = MlflowClient(f"sqlite:///{outputs}/mlflow.db")
    parent = find_parent(client, sweep.path.name, "")
    assert parent.info.status == "FINISHED"
    home = [parent.info.experiment_id]
    runs = client.search_runs(home, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(runs) == 18
    assert {r.data.tags[f"sweep.{sweep.path.name}"] for r in runs} == {
        "first_seed=42",
        "first_seed=1000",
    }
    said = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "sweep.json", str(outputs))).read_text()
    )
    assert len(said["jobs"]) == 18
    assert said["judged"]["answer"] == "undecided"
    assert "undecided, after 9 pairs" in parent.data.tags["mlflow.note.content"]
    assert run("report", sweep.path.name, "--out", str(outputs / "experiments")).code == 0


WRONG = {
    ("", ""): "BASE and CANDIDATE are the same; one of them must differ",
    ("", "model.nembd=12"): "model.nembd=12: no such key; did you mean model.n_embd?",
    ("", "model.n_embd=12 model.n_head=5"): "model.n_head=5: must divide n_embd=12",
    ("", "data.split_seed=3"): "are evaluated on different tokens",
    ("", "model.block_size=5"): "are evaluated on different tokens",
    ("", "data.val_fraction=0.0"): "both arms must be evaluated on held-out documents",
    ("", "resume=abc"): "resume=abc: new runs are judged",
    ("", "a='b"): "CANDIDATE=a='b: cannot be read (No closing quotation)",
    ("nosuch", ""): "nosuch: no such run or folder",
    ("", "seed=7", "--most", "4"): "--most=4: must be an integer >= 5",
    ("", "seed=7", "--matters", "0"): "--matters=0.0: must be a number > 0",
    ("", "seed=7", "--workers", "0"): "--workers=0: must be an integer >= 1",
}


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_wrong_inputs_are_one_line(run: Within, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = run("judge", *words, *OFFLINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("microgpt: ")
    assert WRONG[words] in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def pair(base: str, candidate: str, outputs: Path, *words: str) -> Pair:
    return pair_of(base, candidate, words, None, outputs, OURS_ALONE)


def test_two_runs_are_arms_whose_seeds_are_paired(tmp_path: Path) -> None:
    for name, words in (("one", ("seed=5",)), ("two", ("seed=9", "model.n_embd=4"))):
        train_here(tmp_path, "tracking=none", "trainer.num_steps=1", *words, name=name)
    found = pair("one", "two", tmp_path)
    assert [job.seed for job in found.jobs(2)] == [5, 5, 6, 6]
    assert (found.base.name, found.candidate.name) == ("n_embd=8", "n_embd=4")
    with pytest.raises(ConfigError, match="keeps its configuration"):
        pair("one", "two", tmp_path, "seed=3")


@pytest.mark.parametrize(
    ("base", "candidate", "names"),
    [
        ("", "model/norm=layernorm", ("base", "norm=layernorm")),
        ("model.n_embd=4", "", ("n_embd=4", "candidate")),
        ("seed=1 model.n_embd=4", "model.n_embd=4 optimizer.lr=0.1", ("base", "lr=0.1")),
        ("", "seed=1000", ("first_seed=42", "first_seed=1000")),
    ],
)
def test_arms_are_called_as_they_were_given(
    base: str, candidate: str, names: tuple[str, str], tmp_path: Path
) -> None:
    found = pair(base, candidate, tmp_path, f"paths.outputs={tmp_path}", *OFFLINE)
    assert (found.base.name, found.candidate.name) == names
    jobs = found.jobs(1)
    assert tuple(job.arm for job in jobs) == names
    assert [job.name for job in jobs] == [f"{job.arm} seed={job.seed}" for job in jobs]
