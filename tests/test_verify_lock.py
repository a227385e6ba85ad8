"""An experiment checked from its lock alone: runs, numbers, page."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.lock import text_of
from microgpt.ablation.report.report import report
from microgpt.ablation.verify_lock import draw
from microgpt.tracking import open_store
from tests.command import Ended, Within
from tests.running import stored, train_here

ARMS, SEEDS = ["0.01", "0.1"], [0, 1]
JOBS = [(lr, seed) for lr in ARMS for seed in SEEDS]

WORDS = ["trainer.num_steps=6", "trainer.eval_documents=5", "trainer.eval_every=3"]
ASKED = {
    "question": "Which rate?",
    "source": "none",
    "expectation": "none",
    "baseline": {"optimizer.lr": 0.01},
    "matters": 0.01,
}


@pytest.fixture(scope="module")
def experiments(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep that was trained: two arms, two seeds, and one run that failed."""
    outputs = tmp_path_factory.mktemp("sweep")
    shutil.copy(store_template, outputs / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        jobs = [_train(outputs, lr, seed) for lr, seed in JOBS]
        _log_parent(outputs, jobs)
        report("rates", None, outputs, outputs / "experiments")
    return outputs / "experiments"


def _train(outputs: Path, lr: str, seed: int) -> dict[str, Any]:
    """A job, and how sweep.json tells of it."""
    own = [f"optimizer.lr={lr}", f"seed={seed}"]
    code, run = train_here(outputs, *WORDS, *own, name=f"{lr}-{seed}")
    assert code == 0
    facts = {key: run.info[key] for key in ("signature", "source")}
    differs = {"optimizer.lr": lr, "seed": str(seed)}
    name, arm = f"lr={lr} seed={seed}", f"lr={lr}"
    return {
        "run": run.path.name,
        "name": name,
        "arm": arm,
        "seed": seed,
        "differs": differs,
        "tags": {"lr": lr, "seed": str(seed)},
        "overrides": own,
        **facts,
    }


def _log_parent(outputs: Path, jobs: list[dict[str, Any]]) -> None:
    runs = {run.data.tags["microgpt.id"]: run for run in stored(outputs)}
    client = open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
    first = runs[jobs[0]["run"]]
    failed = {**jobs[0], "run": "gone", "name": "lr=0.01 seed=2", "seed": 2}
    said = {
        "id": "abc-def",
        "signature": "a" * 64,
        "source": "b" * 64,
        "experiment": "rates",
        "name": "rates",
        "description": "Two rates",
        "ablation": ASKED,
        "config": _config(outputs / "runs" / jobs[0]["run"]),
        "grid": {},
        "jobs": [*jobs, failed],
    }
    tags = {"sweep.id": "abc-def", "sweep.experiment": "rates", "microgpt.id": "abc-def"}
    parent = client.create_run(first.info.experiment_id, tags=tags).info.run_id
    client.log_text(parent, json.dumps(said), "sweep.json")
    for job in jobs:
        client.set_tag(runs[job["run"]].info.run_id, "sweep.abc-def", job["arm"])


def _config(folder: Path) -> dict[str, Any]:
    from microgpt.run.folder import RunFolder

    return RunFolder(folder).config


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`microgpt verify rates` in a folder with a copy of the report and no store."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: Within(monkeypatch, capfd)("verify", "rates", *words)


@pytest.fixture
def folder(experiments: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(experiments / "rates", tmp_path / "experiments/rates"))


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the lock by hand, its digest too, as one would who means to deceive."""
    lock = json.loads((folder / "results.lock.json").read_text())
    del lock["digest"]
    change(lock)
    (folder / "results.lock.json").write_text(text_of(lock))


def test_all_runs_are_bit_exact(folder: Path, verify: Callable[..., Ended]) -> None:
    ended = verify("--all")
    assert ended.code == 0, ended
    assert "4 of 4 finished runs are trained again" in ended.out
    for lr, seed in JOBS:
        assert f"run lr={lr} seed={seed}\nbit-exact: 6 steps, " in ended.out
    assert sorted(file.name for file in folder.parent.parent.iterdir()) == ["experiments"]


def test_a_tenth_is_at_least_one(folder: Path, verify: Callable[..., Ended]) -> None:
    ended = verify()
    assert (ended.code, ended.out.count("bit-exact: ")) == (0, 1), ended
    ended = verify("--sample", "2", "--seed", "1")
    assert (ended.code, ended.out.count("bit-exact: ")) == (0, 2), ended


def test_the_draw_is_seeded() -> None:
    runs = list(range(40))
    assert draw(runs, None, 0) == draw(runs, None, 0) != draw(runs, None, 1)
    assert len(draw(runs, None, 0)) == 4
    assert draw(JOBS, None, 0) == JOBS[-1:]  # as the tests below go by
    assert draw(runs, 99, 5) == runs


def test_a_number_changed_in_the_lock(folder: Path, verify: Callable[..., Ended]) -> None:
    file = folder / "results.lock.json"
    lock = json.loads(file.read_text())
    lock["table"][0]["loss"]["mean"] -= 0.1
    file.write_text(json.dumps(lock, indent=1))
    ended = verify()
    assert ended.code == 1
    assert "results.lock.json was changed by hand\n" in ended.out


def test_a_number_of_the_table_changed_and_the_digest_with_it(
    folder: Path, verify: Callable[..., Ended]
) -> None:
    edit(folder, lambda lock: lock["table"][1]["loss"].update(mean=1.0))
    ended = verify()
    assert ended.code == 1
    assert "the lock contradicts itself in table[lr=0.1].loss.mean\n" in ended.out
    assert "it says 1.0; its runs give " in ended.out


def test_a_verdict_changed(folder: Path, verify: Callable[..., Ended]) -> None:
    edit(folder, lambda lock: lock["table"][1].update(word="better"))
    ended = verify()
    assert (ended.code, "in table[lr=0.1].word\n" in ended.out) == (1, True), ended


@pytest.mark.parametrize(
    "key", ["metrics", "metrics_sha256", "samples_sha256", "parameters_sha256"]
)
def test_a_figure_of_a_run_changed_and_the_digest_with_it(
    folder: Path, verify: Callable[..., Ended], key: str
) -> None:
    def change(lock: dict[str, Any]) -> None:
        run = lock["runs"][-1]
        if key == "metrics":
            run[key]["val/loss"] = math.nextafter(run[key]["val/loss"], 0)
        else:
            run[key] = "0" * 64

    edit(folder, change)
    ended = verify()
    assert ended.code == 1, ended
    told = {
        "metrics": "diverged at the last step in val/loss, by 1 ulp\n",
        "metrics_sha256": "diverged in the steps before the last\n",
        "samples_sha256": "diverged in the samples\n",
        "parameters_sha256": "diverged in the parameters\n",
    }
    assert told[key] in ended.out
    assert "source, packages and Python are unchanged" in ended.out


def test_a_configuration_changed(folder: Path, verify: Callable[..., Ended]) -> None:
    edit(folder, lambda lock: lock["runs"][-1]["overrides"].update({"sampling.temperature": 0.6}))
    ended = verify()
    assert (ended.code, "the lock contradicts itself in signature\n" in ended.out) == (1, True)


def test_a_number_of_the_page_changed(folder: Path, verify: Callable[..., Ended]) -> None:
    page = folder / "README.md"
    lock = json.loads((folder / "results.lock.json").read_text())
    shown = f"{lock['table'][0]['loss']['mean']:.4f}"
    text = page.read_text()
    assert shown in text
    page.write_text(text.replace(shown, f"{float(shown) + 0.0001:.4f}", 1))
    ended = verify()
    assert ended.code == 1
    assert "README.md is not what the lock gives, under 'Result'\n" in ended.out
    assert f"; the lock gives '| lr=0.01 | 2 of 3 | {shown} " in ended.out
    page.unlink()
    assert verify().code == 1


def test_what_clocks_measured_may_be_another(folder: Path, verify: Callable[..., Ended]) -> None:
    page = folder / "README.md"
    head, title, rest = page.read_text().partition("## What it took")
    page.write_text(head + title + rest.replace("| lr=0.01 | ", "| lr=0.01 | 9"))
    assert verify().code == 0


def test_other_data(folder: Path, verify: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("anna\nbert\ncarla\ndora\nemil\nfritz\n" * 4)
    ended = verify("--data", "mine.txt")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "give its 64 documents with --data FILE" in ended.err


def test_a_lock_that_is_none(folder: Path, verify: Callable[..., Ended]) -> None:
    for text in ("{", "[]", "{}"):
        (folder / "results.lock.json").write_text(text)
        ended = verify()
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended


def test_code_that_has_changed_is_said(folder: Path, verify: Callable[..., Ended]) -> None:
    edit(
        folder,
        lambda lock: [run.update(source="0" * 64) for run in lock["runs"] if "source" in run],
    )
    ended = verify("--all")
    assert ended.code == 0, ended
    said = "changed since the record: source: changed, in files that the record"
    assert ended.out.count(said) == 1  # not for each run
