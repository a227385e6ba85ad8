"""`microgpt report`: from a store to a page, its figures and its lock."""

import json
import math
import re
import statistics
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.records.store import client_of
from microgpt.ablation.report.render import render_table
from microgpt.ablation.report.report import folder_name
from microgpt.ablation.report.splits import Splits
from microgpt.build import part
from microgpt.core.assemble import make_corpus
from microgpt.core.streams.independent import Independent
from microgpt.tracking.find import find_parent
from microgpt.trust import OURS_ALONE, Trust, Untrusted
from tests.command import Within
from tests.sweeps import (
    CONFIG,
    DOCUMENTS,
    FILES,
    HEADS,
    Made,
    address,
    heads,
    lock_of,
    log_sweep,
    noisy,
    page_of,
    rows,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Within:
    """`microgpt ...` in this process."""
    monkeypatch.setenv("COLUMNS", "40")
    return Within(monkeypatch, capfd)


def test_the_files(told: tuple[Path, str, Made]) -> None:
    assert {file.name for file in told[0].iterdir()} == FILES
    assert all(file.stat().st_size > 500 for file in told[0].iterdir())


def test_the_table_has_the_stores_figures(told: tuple[Path, str, Made]) -> None:
    folder, _, made = told
    lock = read_lock(folder / LOCK)
    ours = [made.loss({HEADS: 16}, seed) for seed in range(5)]
    base = [made.loss({HEADS: 4}, seed) for seed in range(5)]
    row = rows(lock)["n_head=16"]
    assert row["loss"]["mean"] == pytest.approx(statistics.fmean(ours), abs=1e-6)
    assert row["loss"]["sd"] == pytest.approx(statistics.stdev(ours), abs=1e-6)
    gaps = [a - b for a, b in zip(ours, base)]
    assert row["difference"]["mean"] == pytest.approx(statistics.fmean(gaps), abs=1e-6)
    half = 4.314656 * statistics.stdev(gaps) / math.sqrt(5)  # Student's t for 4, at 0.05 / 4
    low = statistics.fmean(gaps) - half
    assert row["difference"]["low"] == pytest.approx(low, abs=2e-6)
    bits = row["loss"]["mean"] * 1.7 / math.log(2)
    assert row["bpc"]["mean"] == pytest.approx(bits, abs=1e-5)
    words = {name: row["word"] for name, row in rows(lock).items()}
    assert {words[f"n_head={n}"] for n in (1, 2, 16)} == {"worse by what matters"}
    assert words["n_head=4"] == "baseline"
    assert words["n_head=8"] == "undecided"
    assert lock["verdict"] == "supported"


def test_the_page_says_it_all(told: tuple[Path, str, Made]) -> None:
    page = (told[0] / "README.md").read_text()
    lock = read_lock(told[0] / LOCK)
    assert render_table(lock) in page
    row = rows(lock)["n_head=16"]
    assert f"| n_head=16 | 5 | {row['loss']['mean']:.4f} |" in page
    claimed = "one of the inner arms better than both ends"
    for said in ("How many heads?", "arXiv 2000.00000", "An optimum between", claimed):
        assert said in page
    assert "**Verdict: supported.**" in page
    assert "flattened" in page
    for command in ("train -m experiment=heads", "report heads", "verify heads"):
        assert f"microgpt {command}" in page
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert set(pictures) == {"arms.png", "curves.png"}


def test_the_html_page_needs_no_other_file(told: tuple[Path, str, Made]) -> None:
    html = (told[0] / "report.html").read_text()
    images = re.findall(r'<img src="(.*?)"', html)
    assert len(images) == 2
    for image in images:
        head, _, content = image.partition(",")
        assert head == "data:image/svg+xml;base64"
        assert b"</svg>" in b64decode(content)
    assert "<table>" in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_the_sweeps_run_has_the_report(bench: Path, told: tuple[Path, str, Made]) -> None:
    folder, parent, _ = told
    client = MlflowClient(address(bench))
    there = {
        Path(file.path).name: file.file_size for file in client.list_artifacts(parent, "report")
    }
    assert there == {file.name: file.stat().st_size for file in folder.iterdir()}
    note = client.get_run(parent).data.tags["mlflow.note.content"]
    assert render_table(read_lock(folder / LOCK)).strip() in note
    assert "Verdict: supported" in note


def test_the_same_store_gives_the_same_bytes_elsewhere(
    bench: Path,
    told: tuple[Path, str, Made],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Within,
) -> None:
    folder, parent, _ = told
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address(bench))
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path / "nothing"))
    assert run("report", parent).code == 0
    own = tmp_path / "nothing/reports/heads"  # a report of one's own leaves the checkout clean
    assert {file.name for file in own.iterdir()} == {file.name for file in folder.iterdir()}
    assert not (tmp_path / "experiments").exists()
    said = run("report", parent, "--publish", "--json").out
    assert json.loads(said)["table"] == read_lock(folder / LOCK)["table"]
    for file in folder.iterdir():
        assert (tmp_path / "experiments/heads" / file.name).read_bytes() == file.read_bytes(), file
    index = (tmp_path / "experiments/README.md").read_text()
    assert "**[How many heads?](heads/README.md)**" in index
    assert "Verdict: supported. Here supported means" in index
    assert "Largest difference: n_head=16 ends 0.1" in index
    assert "(heads/arms.png)" in index


def test_the_terminal(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path, run: Within
) -> None:
    words = ["--uri", address(bench), "--out", str(tmp_path)]
    ended = run("report", told[2].id, *words)
    assert (ended.code, ended.err) == (0, "")
    row = rows(read_lock(told[0] / LOCK))["n_head=16"]
    (line,) = [line for line in ended.out.splitlines() if line.split()[:2] == ["n_head=16", "5"]]
    assert f"{row['loss']['mean']:.4f}" in line
    assert f"{row['difference']['mean']:+.4f}" in line
    assert line.rstrip().endswith("worse by what matters")
    assert "Verdict: supported. Here supported means" in ended.out
    assert "n_head=1 minus n_head=4 is +0." in ended.out
    assert (tmp_path / "heads/README.md").is_file()


def test_what_has_no_result_is_named_and_in_no_mean(bench: Path) -> None:
    means = noisy({1: 2.32, 2: 2.26, 4: 2.23, 8: 2.235, 16: 2.35})
    left = {(1, 0): "failed", (2, 1): "running", (4, 2): "killed", (8, 3): "missing"}

    def loss(arm: Any, seed: int) -> float | str:
        if arm[HEADS] == 16:
            return "failed"
        return left.get((arm[HEADS], seed)) or means(arm, seed)

    lock = lock_of(bench, heads(loss=loss))
    reasons = {run["name"]: run["reason"] for run in lock["runs"] if run["status"] != "finished"}
    assert reasons["n_head=1 seed=0"] == "failed at step 7: train/loss is nan"
    assert reasons["n_head=2 seed=1"] == "running"
    assert reasons["n_head=4 seed=2"] == "stopped"
    assert reasons["n_head=8 seed=3"] == "missing"
    assert len(reasons) == 9
    row = rows(lock)["n_head=1"]
    assert (row["finished"], row["unfinished"]) == (4, 1)
    kept = [means({HEADS: 1}, seed) for seed in (1, 2, 3, 4)]
    assert row["loss"]["mean"] == pytest.approx(statistics.fmean(kept), abs=1e-6)
    assert row["word"] == "not ranked"  # what is left of it are survivors
    assert row["flag"] == "1 of 5 runs failed: the rest are survivors"
    assert (
        rows(lock)["n_head=2"]["difference"]["n"] == 3
    )  # the seeds that the baseline finished, too
    last = rows(lock)["n_head=16"]
    assert (last["loss"], last["word"], last["flag"]) == (None, "not ranked", "no run finished")
    assert lock["verdict"] == "undecided"
    page = page_of(lock)
    assert "9 of the 25 runs have no result and count in no mean" in page
    assert "- n_head=1 seed=0: failed at step 7: train/loss is nan" in page


def test_one_seed_can_show_nothing(bench: Path) -> None:
    lock = lock_of(bench, heads(seeds=[3]))
    assert {row["word"] for row in lock["table"]} == {"baseline", "undecided"}
    assert {row["loss"]["low"] for row in lock["table"]} == {None}
    assert lock["verdict"] == "undecided"
    assert "have 1 seeds in common; two are needed" in lock["because"]


@pytest.mark.parametrize(("fall", "said"), [(0.005, ": flat."), (0.03, ": not flat.")])
def test_whether_the_curves_have_flattened(bench: Path, fall: float, said: str) -> None:
    lock = lock_of(bench, heads(fall=fall, seeds=[0, 1]))
    fell = lock["flattened"]["fell"]["n_head=1"]
    assert fell["mean"] == pytest.approx(fall, abs=1e-6)
    assert said in page_of(lock)


def test_a_sweep_without_a_question(bench: Path) -> None:
    made = heads(ablation=None, experiment=None, name="n_head seed", seeds=[0, 1])
    lock = lock_of(bench, made)
    assert (lock["verdict"], lock["baseline"]) == (None, "n_head=1")
    assert folder_name(lock["experiment"]) == "n_head-seed"
    assert "No question was written down" in page_of(lock)


def test_the_first_arm_is_the_baseline_also_where_another_has_its_values_and_more(
    bench: Path,
) -> None:
    arms = [{"model.n_head": 4}, {"model.n_head": 4, "model.n_layer": 2}]
    lock = lock_of(bench, heads(arms=arms, experiment=None, ablation=None))
    assert lock["baseline"] == "n_head=4"
    assert lock["table"][1]["difference"]["n"] == 5


def test_the_latest_sweep_is_the_experiments(bench: Path) -> None:
    for name in ("old", "new"):
        parent = log_sweep(bench, heads(id=name, experiment="twice", seeds=[0]))
    client, store = client_of(address(bench), bench)
    for reference in ("twice", "new", parent):
        assert find_parent(client, reference, store).info.run_id == parent


def test_tokens_are_those_of_the_documents_in_their_order() -> None:
    documents = [*DOCUMENTS.split(), "x" * 30]
    config = json.loads(json.dumps(CONFIG))
    corpus = make_corpus(part(config, "data"), documents, Independent(seed=42))
    splits = Splits(documents, OURS_ALONE)
    for steps in (1, 3, 40, 3):
        config["trainer"]["num_steps"] = steps
        expected = sum(len(corpus.batch(step, 2, 16).tokens) for step in range(steps))
        assert splits.tokens_trained(config) == expected
    config["seed"] = 7  # its documents come in another order
    corpus = make_corpus(part(config, "data"), documents, Independent(seed=7))
    assert splits.tokens_trained(config) == sum(
        len(corpus.batch(i, 2, 16).tokens) for i in range(3)
    )
    assert Splits(None, OURS_ALONE).tokens_trained(config) is None
    gone = {**config, "streams": {"_target_": "nowhere.Streams"}}
    assert Splits(documents, Trust(("nowhere",))).tokens_trained(gone) is None
    with pytest.raises(Untrusted, match=r"streams\._target_='nowhere.Streams': must be a class of"):
        splits.tokens_trained(gone)
