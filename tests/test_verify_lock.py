"""An experiment checked from its lock alone: runs, numbers, page."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import microgpt
from microgpt.ablation.reproduce.draw import draw
from microgpt.ablation.reproduce.shared import RESULTS, Shared
from microgpt.run.sweep import joint
from tests.command import Ended, Within
from tests.rates import JOBS, edit, reported


@pytest.fixture(scope="module")
def experiments(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep that was trained: two arms, two seeds, and one run that failed."""
    return reported(store_template, tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`microgpt verify rates` in a folder with a copy of the report and no store."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: Within(monkeypatch, capfd)("verify", "rates", "--seed", "0", *words)


@pytest.fixture
def folder(experiments: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(experiments / "rates", tmp_path / "experiments/rates"))


def test_all_runs_are_bit_exact(folder: Path, verify: Callable[..., Ended]) -> None:
    ended = verify("--all")
    assert ended.code == 0, ended
    assert "4 of 4 finished runs are trained again" in ended.out
    for lr, seed in JOBS:
        assert f"run lr={lr} seed={seed}\nbit-exact: 6 steps, " in ended.out
    assert "the intervals over seeds and documents follow from the nats of all runs\n" in ended.out
    assert sorted(file.name for file in folder.parent.parent.iterdir()) == ["experiments"]


def test_intervals_over_documents_are_computed_from_all_runs(
    folder: Path, verify: Callable[..., Ended]
) -> None:
    edit(folder, lambda lock: lock["crossed"]["arms"]["lr=0.1"].update(low=-9.0))
    ended = verify("--all")
    assert (ended.code, "in crossed.arms.lr=0.1.low\n" in ended.out) == (1, True), ended


def test_a_tenth_is_at_least_one(folder: Path, verify: Callable[..., Ended]) -> None:
    ended = verify()
    assert (ended.code, ended.out.count("bit-exact: ")) == (0, 1), ended
    ended = verify("--sample", "2", "--seed", "1")
    assert (ended.code, ended.out.count("bit-exact: ")) == (0, 2), ended


def test_the_draw_is_seeded() -> None:
    runs = list(range(40))
    chosen, which = draw(runs, 4, 0)
    assert (draw(runs, 4, 0)[0], len(chosen), which) == (chosen, 4, " (--seed 0 draws the same)")
    assert draw(runs, 4, 1)[0] != chosen == sorted(chosen)
    assert draw(JOBS, 1, 0)[0] == JOBS[-1:]  # as the tests below go by
    assert draw(runs, 99, 5) == (runs, "")


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
    assert (ended.code, "itself in signature of lr=0.1 seed=1\n" in ended.out) == (1, True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda lock: lock["runs"][0].update(seed=7),
            "the lock contradicts itself in ",
        ),
        (lambda lock: lock["data"].update(documents=9), "contradicts itself in data.documents\n"),
        (lambda lock: lock["ablation"].update(expectation="x"), "itself in protocol.expectation\n"),
        (lambda lock: lock["ablation"].update(source="x"), "itself in protocol.source\n"),
        (lambda lock: lock["ablation"].update(matters=1.0), "itself in "),
        (lambda lock: lock["protocol"].update(digest="0" * 64), "itself in protocol.digest\n"),
        (lambda lock: lock["protocol"]["content"].update(seeds=[0]), "itself in protocol.seeds"),
        (
            lambda lock: lock["runs"][1].update(signature="0" * 64),
            "itself in signature of lr=0.01 s",
        ),
        (lambda lock: lock["runs"][2].update(signature="0" * 64), "itself in sweep.signature\n"),
        (
            lambda lock: lock["runs"][0]["curve"][1].update({"val/loss": 9.0}),
            "itself in curves.lr=0.01",
        ),
        (
            lambda lock: lock["table"][0].update(flag="no reason"),
            "itself in table[lr=0.01].",
        ),
    ],
)
def test_forgeries_with_a_digest_of_their_own(
    folder: Path, verify: Callable[..., Ended], change: Callable[[Any], None], line: str
) -> None:
    edit(folder, change)
    ended = verify()
    assert (ended.code, line in ended.out) == (1, True), ended


def test_words_of_the_page_may_be_edited_and_numbers_not(
    folder: Path, verify: Callable[..., Ended]
) -> None:
    page = folder / "README.md"
    lock = json.loads((folder / "results.lock.json").read_text())
    shown = f"{lock['table'][0]['loss']['mean']:.4f}"
    text = page.read_text()
    assert shown in text
    page.write_text(text.replace("Verdict", "What came out").replace("\n\n", "\n\nWell, "))
    assert verify().code == 0
    page.write_text(text.replace(shown, f"{float(shown) + 0.0001:.4f}", 1))
    ended = verify()
    assert (ended.code, "README.md has other numbers than were written\n" in ended.out) == (1, True)
    page.unlink()
    assert verify().code == 2


@pytest.mark.parametrize("name", ["arms.png", "arms.svg", "report.html"])
def test_figures_and_the_html_page_are_covered(
    folder: Path, verify: Callable[..., Ended], name: str
) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole + b"\n")
    ended = verify()
    assert (ended.code, f"{name} was changed\n" in ended.out) == (1, True), ended
    (folder / name).unlink()
    ended = verify()
    assert (ended.code, f"{name} is gone\n" in ended.out) == (1, True), ended
    (folder / name).write_bytes(whole)
    (folder / "other.svg").write_bytes(b"")
    ended = verify()
    assert (ended.code, "other.svg is not the report's\n" in ended.out) == (1, True), ended


def test_a_lock_of_another_schema(folder: Path, verify: Callable[..., Ended]) -> None:
    edit(folder, lambda lock: lock.update(schema=4))
    ended = verify()
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "is of schema 4, and this version reads schema 3; `microgpt report rates`" in ended.err


@pytest.mark.slow
def test_other_runs_are_drawn_each_time_and_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    command = Within(monkeypatch, capfd)
    ended = command("verify", "rates", "--sample", "2")
    found = re.search(
        r"2 of 4 finished runs .* \(--seed (\d+) draws the same\):\n  (.*)\n", ended.out
    )
    assert found is not None, ended
    again = command("verify", "rates", "--sample", "2", "--seed", found.group(1))
    assert f"  {found.group(2)}\n" in again.out
    for name in found.group(2).split(", "):
        assert f"run {name}\n" in again.out


@pytest.mark.slow
def test_every_experiment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(microgpt, "__file__", str(folder.parent / "none/__init__.py"))
    monkeypatch.chdir(folder.parent.parent)
    Path(shutil.copytree(folder, folder.parent / "edited"), "README.md").write_text("Confirmed.")
    ended = Within(monkeypatch, capfd)("verify", "--sample", "1", "--json")
    assert ended.code == 1
    assert [(a["what"], a["answer"]) for a in json.loads(ended.out)] == [
        ("edited", "differs"),
        ("rates", "bit-exact"),
    ]
    first, *lines = ended.err.splitlines()
    assert first.startswith("2 experiments, one after the other by name; ")
    heads = [line.partition(", after")[0] for line in lines if " of 2: " in line]
    assert heads[:2] == ["1 of 2: edited", "2 of 2: rates"]
    assert lines[-2:] == ["bit-exact: 1 of 2", "differs: 1 of 2: edited"]


def test_a_run_of_an_engine_that_nobody_checked_is_trained_again(tmp_path: Path) -> None:
    """Signatures are held against configurations with the engine of the first run."""
    run: dict[str, Any] = dict.fromkeys(RESULTS, "s") | {"overrides": {}, "status": "finished"}
    forged = {**run, "overrides": {"engine._target_": "another"}}
    files = [tmp_path / str(number) for number in range(3)]
    for file in files:
        file.write_text('"signature": "s"')
    shared = Shared(files)
    shared.add({"experiment": "first"}, run, None)
    assert shared.find({"runs": [run, forged]}, forged) is None
    for _ in files[1:]:
        found = shared.find({"runs": [run]}, run)
        assert found
        assert found.experiment == "first"
    assert shared.find({"runs": [run]}, run) is None  # nobody else has it, and it is let go of


@pytest.mark.slow
def test_a_run_that_two_experiments_have_is_trained_again_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Unless the second says something else of it."""
    monkeypatch.setattr(microgpt, "__file__", str(folder.parent / "none/__init__.py"))
    monkeypatch.chdir(folder.parent.parent)
    forged = Path(shutil.copytree(folder, folder.parent / "twice"))
    ended = Within(monkeypatch, capfd)("verify", "--all")
    assert (ended.code, ended.out.count("bit-exact: 6 steps")) == (0, 4), ended
    assert ended.out.count("bit-exact: the run of rates, parameters ") == 4
    assert ended.out.count("the intervals over seeds and documents follow from the nats") == 2
    edit(forged, lambda lock: lock["runs"][0].update(parameters_sha256="0" * 64))
    ended = Within(monkeypatch, capfd)("verify", "--all")
    assert (ended.code, ended.out.count("bit-exact: the run of rates")) == (1, 3), ended
    assert "diverged in the parameters" in ended.out


def test_other_data(folder: Path, verify: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("anna\nbert\ncarla\ndora\nemil\nfritz\n" * 4)
    ended = verify("--data", "mine.txt")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1
    assert "give its 64 documents with --data FILE" in ended.err


def test_figures_that_are_none_are_named(folder: Path, verify: Callable[..., Ended]) -> None:
    edit(folder, lambda lock: lock["runs"][0]["curve"][0].update(step=None))
    ended = verify()
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
    assert "run 1: curve must be a list, each an evaluation, but is" in ended.err
    edit(folder, lambda lock: lock["runs"][0]["curve"][0].update({"step": 3, "val/loss": 1e308}))
    ended = verify()
    assert (ended.code, ended.err) == (1, ""), ended
    assert "its figures are out of range" in ended.out


def test_code_that_has_changed_is_said(folder: Path, verify: Callable[..., Ended]) -> None:
    def change(lock: dict[str, Any]) -> None:
        lock["sweep"]["source"] = joint(["0" * 64])
        for run in lock["runs"]:
            run["source"] = "0" * 64

    edit(folder, change)
    ended = verify("--all")
    assert ended.code == 0, ended
    said = "changed since the record: source: changed, in files that the record"
    assert ended.out.count(said) == 1  # not for each run
