"""Sweeps as their users have them: the store, what is skipped, what fails, who is killed."""

import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FAILED, FINISHED
from microgpt.run.sweep import SweepFolder, all_sweeps
from tests.conftest import Verify
from tests.running import (
    NAMES,
    TINY,
    children,
    figures,
    microgpt,
    parents,
    recorded,
    store,
    train_here,
)

SWEEP = ["train", "-m", *TINY, "trainer.checkpoint_every=0", "hydra.launcher.workers=1"]
SHORT = [*SWEEP, "trainer.num_steps=3"]
GRID = ["model.n_head=1,2", "seed=0,1", "description='Heads, briefly'"]
TABLES = ("runs", "metrics", "params", "latest_metrics")


@pytest.fixture(scope="module")
def done(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a sweep that was done once; tests look at them, or change a copy."""
    outputs = tmp_path_factory.mktemp("done")
    shutil.copy(store_template, outputs / "mlflow.db")
    said, complaints = microgpt(outputs, *SHORT, *GRID)
    assert complaints == ""
    lines = said.splitlines()
    assert lines[0].endswith("  4 jobs: 4 new")
    ends = sorted(line for line in lines if " / 4 " in line)  # not on a terminal: a line for each
    assert [line[:5] for line in ends] == ["1 / 4", "2 / 4", "3 / 4", "4 / 4"]
    assert all("  finished  held-out " in line for line in ends)
    end = lines.index("4 jobs: 4 finished")
    assert lines[end + 1].split() == ["arm", "runs", "held-out", "95", "%"]
    arms = [line.split()[0] for line in lines[end + 2 : end + 4]]
    assert sorted(arms) == ["n_head=1", "n_head=2"]
    (sweep,) = (outputs / "sweeps").iterdir()
    assert lines[end + 4 :] == [
        f"lowest {arms[0]}",
        f"next   microgpt report {sweep.name}",
        f"look   microgpt ui {sweep.name}",
    ]
    return outputs


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """Outputs with a sweep that is done, to go on with."""
    return Path(shutil.copytree(done, tmp_path / "outputs"))


def only_sweep(outputs: Path) -> SweepFolder:
    (folder,) = (outputs / "sweeps").iterdir()
    return SweepFolder(folder)


def test_documents_are_kept_once(copy: Path, tmp_path: Path, verify: Verify) -> None:
    (digest,) = {run.info["data"]["digest"] for run in all_runs(copy)}
    (kept,) = copy.glob("data/*")
    assert kept.name == f"{digest}.txt"
    for run in all_runs(copy):
        assert (run.path / "documents.txt").read_bytes() == kept.read_bytes()
    (parent,) = parents(copy)
    listed = store(copy).list_artifacts(parent.info.run_id, "documents")
    assert [file.path for file in listed] == [f"documents/{digest}.txt"]
    first, *_ = children(copy)
    names = [file.path for file in store(copy).list_artifacts(first.info.run_id)]
    assert "metrics.jsonl" in names
    assert "documents.txt" not in names
    shutil.rmtree(copy / "runs")
    shutil.rmtree(copy / "data")
    code, said = verify(copy, first.info.run_id)  # from the store alone
    assert code == 0, said


def test_documents_are_links_and_a_copy_of_a_run_has_its_own(outputs: Path) -> None:
    runs = [
        train_here(outputs, "tracking=none", "trainer.num_steps=3", f"seed={seed}", name=f"r{seed}")
        for seed in (0, 1)
    ]
    first, second = (run.path / "documents.txt" for _, run in runs)
    assert first.samefile(second)
    copied = Path(shutil.copytree(first.parent, outputs / "runs/copied"))
    shutil.rmtree(outputs / "data")
    shutil.rmtree(second.parent)
    assert not first.samefile(copied / "documents.txt")
    said, _ = microgpt(outputs, "sample", "copied", "-n", "1", "--seed", "1")
    assert said.count("\n") == 1
    _, third = train_here(outputs, "tracking=none", "trainer.num_steps=3", "seed=2", name="r2")
    assert (third.path / "documents.txt").read_bytes() == first.read_bytes()
    (shared,) = outputs.glob("data/*")
    shared.chmod(0o644)
    shared.write_text("edited\n")
    _, fourth = train_here(outputs, "tracking=none", "trainer.num_steps=3", "seed=3", name="r3")
    assert (fourth.path / "documents.txt").read_bytes() == first.read_bytes()


def test_documents_where_no_links_can_be_made(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    _, run = train_here(outputs, "tracking=none", "trainer.num_steps=3")
    assert run.documents == NAMES.read_text().split()


def counts(outputs: Path) -> dict[str, int]:
    """How many rows the tables of the store have."""
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        return {
            name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in TABLES
        }


def files(outputs: Path) -> dict[str, bytes]:
    """All that the runs' folders hold."""
    return {
        str(file.relative_to(outputs)): file.read_bytes()
        for file in outputs.glob("runs/**/*")
        if file.is_file()
    }


def test_a_sweep_is_a_run_with_its_jobs_below_it(done: Path) -> None:
    sweep = only_sweep(done)
    (parent,) = parents(done)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "n_head=1,2 seed=0,1"
    tags = parent.data.tags
    assert tags["sweep.id"] == tags["microgpt.id"] == sweep.path.name
    assert "sweep.experiment" not in tags
    for words in ("Heads, briefly: [4 runs", "`model.n_head` 1, 2", "trainer.num_steps"):
        assert words in tags["mlflow.note.content"]
    runs = children(done)
    arms = {"n_head=1 seed=0", "n_head=1 seed=1", "n_head=2 seed=0", "n_head=2 seed=1"}
    assert {run.info.run_name for run in runs} == arms
    for run in runs:
        tags = run.data.tags
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.run_name == f"n_head={tags['n_head']} seed={tags['seed']}"
        assert tags[f"sweep.{sweep.path.name}"] == f"n_head={tags['n_head']}"
        assert run.data.params["model.n_head"] == tags["n_head"]
        assert tags["microgpt.id"] == f"{tags['signature'][:12]}-{tags['source'][:8]}"


def test_the_store_has_the_plan(done: Path) -> None:
    (parent,) = parents(done)
    text = store(done).download_artifacts(parent.info.run_id, "sweep.json")
    info = json.loads(Path(text).read_text())  # the plan has no status: the run has
    assert info["grid"] == {"model.n_head": ["1", "2"], "seed": ["0", "1"]}
    assert info["name"] == "n_head=1,2 seed=0,1"
    assert info["experiment"] is info["ablation"] is None
    assert info["config"]["trainer"]["num_steps"] == 3
    assert set(GRID) <= set(info["overrides"])
    assert {job["run"] for job in info["jobs"]} == {run.path.name for run in all_runs(done)}


def test_the_figures_are_those_of_the_folders_and_of_single_runs(done: Path, outputs: Path) -> None:
    by_id = {run.data.tags["microgpt.id"]: run for run in children(done)}
    for run in all_runs(done):
        there = by_id[run.path.name]
        last = {name: points[-1][1] for name, points in recorded(run).items()}
        assert there.data.metrics == last
    (same,) = (run for run in all_runs(done) if run.info["name"] == "n_head=2 seed=1")
    short = ["trainer.num_steps=3", "trainer.checkpoint_every=0", "seed=1", "tracking=none"]
    _, alone = train_here(outputs, *short)
    assert figures(alone) == figures(same)


def test_the_same_again_does_nothing(copy: Path) -> None:
    before, rows = files(copy), counts(copy)
    said, complaints = microgpt(copy, *SHORT, *GRID)
    assert complaints == ""
    assert "4 jobs: 4 finished before, skipped" in said
    assert "4 jobs: 4 skipped, finished before" in said
    assert files(copy) == before
    assert counts(copy) == rows
    (parent,) = parents(copy)
    assert parent.info.status == "FINISHED"


@pytest.mark.slow
def test_a_sweep_takes_over_what_another_has_finished(copy: Path) -> None:
    first = only_sweep(copy).path.name
    before = {run.info.run_id for run in children(copy)}
    said, _ = microgpt(copy, *SHORT, "model.n_head=2", "seed=1,2")
    assert "2 jobs: 1 new, 1 finished before, skipped" in said
    runs = children(copy)
    assert len(runs) == 5
    (second,) = {sweep.name for sweep in (copy / "sweeps").iterdir()} - {first}
    members = [run for run in runs if f"sweep.{second}" in run.data.tags]
    assert {run.data.tags["seed"] for run in members} == {"1", "2"}
    assert {run.data.tags[f"sweep.{second}"] for run in members} == {"default"}
    (shared,) = (run for run in members if run.info.run_id in before)
    assert shared.data.tags[f"sweep.{first}"] == "n_head=2"
    (old,) = (run for run in parents(copy) if run.data.tags["sweep.id"] == first)
    assert shared.data.tags["mlflow.parentRunId"] == old.info.run_id


@pytest.mark.soak
def test_skip_false_trains_all_anew_and_keeps_the_old(copy: Path) -> None:
    before, (first,) = files(copy), all_sweeps(copy)
    names = {run.path.name for run in all_runs(copy)}
    said, _ = microgpt(copy, *SHORT, *GRID, "skip=false")
    assert "4 jobs: 4 new" in said
    (second,) = (sweep for sweep in all_sweeps(copy) if sweep.path.name != first.path.name)
    mark = second.path.name.removeprefix(first.path.name)
    runs = {run.path.name: run for run in all_runs(copy)}
    assert runs.keys() == names | {name + mark for name in names}
    assert before.items() <= files(copy).items()
    assert all(figures(runs[name]) == figures(runs[name + mark]) for name in names)
    ids = {run.info.run_id for run in parents(copy)}
    below = Counter(run.data.tags["mlflow.parentRunId"] for run in children(copy))
    assert below == dict.fromkeys(ids, 4)

    second.update(status=FAILED)  # as if it had not come to its end: then it goes on
    runs[f"{min(names)}{mark}"].update(status=FAILED)
    said, _ = microgpt(copy, *SHORT, *GRID, "skip=false")
    assert "4 jobs: 3 finished before, skipped, 1 failed before, done again" in said
    assert len(parents(copy)) == 2


@pytest.mark.slow
def test_elsewhere_with_the_same_store_what_is_finished_is_skipped(
    done: Path, tmp_path: Path
) -> None:
    shutil.copy(done / "mlflow.db", tmp_path / "shared.db")
    elsewhere = tmp_path / "elsewhere"
    said, _ = microgpt(elsewhere, *SHORT, *GRID, f"tracking.uri=sqlite:///{tmp_path}/shared.db")
    assert "4 jobs: 4 finished before, skipped" in said
    assert list(elsewhere.glob("runs/*")) == []
    shutil.copy(tmp_path / "shared.db", elsewhere / "mlflow.db")
    assert len(parents(elsewhere)) == 2  # a run of the store belongs to one folder
    assert len(children(elsewhere)) == 4


def test_jobs_that_fail(outputs: Path) -> None:
    wild = ["optimizer=sgd", "model/norm=none", "trainer.eval_every=0", "trainer.num_steps=50"]
    words = [*SWEEP, *wild, "model.n_head=3,2", "optimizer.lr=0.001,100000"]
    said, complaints = microgpt(outputs, *words, code=1)
    runs = {run.info["name"]: run for run in all_runs(outputs)}
    by_name = {run.info.run_name: run for run in children(outputs)}
    ends = {
        "n_head=3 lr=0.001": (FAILED, "model.n_head=3: must divide n_embd=8"),
        "n_head=3 lr=100000": (FAILED, "model.n_head=3: must divide n_embd=8"),
        "n_head=2 lr=0.001": (FINISHED, None),
        "n_head=2 lr=100000": (FAILED, "train/loss is "),
    }
    assert runs.keys() == by_name.keys() == ends.keys()
    for name, (status, reason) in ends.items():
        assert runs[name].status == status
        assert by_name[name].info.status == status.upper()
        tags = by_name[name].data.tags
        assert tags["lr"] == name.partition("lr=")[2]
        assert tags.get("failed_at") == (reason and str(runs[name].info["failed_at"]))
        assert tags.get("reason", "").startswith(reason or "")
        word = "refused" if "n_head=3" in name else "failed"
        assert (f"microgpt: {name} {word}: {reason}" in complaints) == (reason is not None)
    assert runs["n_head=2 lr=100000"].info["failed_at"] > 0
    (parent,) = parents(outputs)
    assert parent.info.status == "FAILED"
    sweep = only_sweep(outputs).path.name
    tags = store(outputs).get_experiment(parent.info.experiment_id).tags
    shown = json.loads(tags[f"mlflow.sharedViewState.{sweep}"])["searchFilter"]
    assert shown == f"tags.`sweep.{sweep}` != '' AND attributes.status = 'FINISHED'"
    assert "4 jobs: 1 finished, 1 failed, 2 refused" in said
    (again,) = (line for line in said.splitlines() if line.startswith("do again what failed"))
    assert again.endswith(" ".join(words[-2:]))
