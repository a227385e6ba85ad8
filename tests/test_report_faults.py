"""`microgpt report` of stores, sweeps and questions that give no report, and of one that is interrupted."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from microgpt.ablation.evidence.lock import LOCK, SCHEMA, read_lock, text_of
from microgpt.ablation.report import report as reporting
from microgpt.ablation.report.place import held
from microgpt.ablation.report.report import examine, report
from microgpt.core.check import BadValue
from tests.command import Within
from tests.running import replace
from tests.sweeps import (
    FILES,
    HEADS,
    Made,
    address,
    asked,
    heads,
    log_sweep,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Within:
    """`microgpt ...` in this process."""
    monkeypatch.setenv("COLUMNS", "40")
    return Within(monkeypatch, capfd)


def test_a_report_is_written_whole_or_not_at_all(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = told[2].id, address(bench), bench, tmp_path
    folder = tmp_path / "heads"
    shutil.copytree(told[0], folder)
    (folder / "mine.txt").write_text("a note")
    (folder / "fit.png").write_text("of an older report, whose lock names it")
    replace(folder / LOCK, '"files": {', '"files": {"fit.png": "",')
    (folder / "mine.png").write_text("a picture")
    (folder / "mine").mkdir()
    (folder / "README.md").write_text("as it was")
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "html_page", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report(*again)
    assert (folder / "README.md").read_text() == "as it was"
    assert [file.name for file in tmp_path.iterdir()] == ["heads"]
    report(*again)
    mine = {"mine.txt", "mine.png", "mine"}
    assert {file.name for file in folder.iterdir()} == FILES | mine
    assert (folder / "README.md").read_text() == (told[0] / "README.md").read_text()
    (folder / LOCK).write_text("damaged: it names no pictures")
    (folder / "arms.png").write_text("old")
    report(*again)
    assert (folder / "arms.png").read_bytes() == (told[0] / "arms.png").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "heads"]


def test_a_page_of_the_users_is_not_replaced(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path
) -> None:
    no_gallery, no_report = "a README.md that is no gallery", "README.md, which is no report's"
    for page, says in (("README.md", no_gallery), ("heads/README.md", no_report)):
        (tmp_path / page).parent.mkdir(exist_ok=True)
        (tmp_path / page).write_text("mine")
        with pytest.raises(BadValue, match=says):
            report(told[2].id, address(bench), bench, tmp_path)
        assert [file.name for file in tmp_path.rglob("*.*")] == ["README.md"]
        assert (tmp_path / page).read_text() == "mine"
        (tmp_path / page).unlink()
    (tmp_path / "heads/arms.png").write_text("mine")
    with pytest.raises(BadValue, match=r"has arms\.png, which is no report's"):
        report(told[2].id, address(bench), bench, tmp_path)
    assert [file.name for file in tmp_path.rglob("*.*")] == ["arms.png"]


def test_what_a_killed_report_left(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path
) -> None:
    """The folder that it had moved away is there again, with a user's files; another report goes on."""
    for name in (".heads~aaaaaaaa", ".heads.bbbbbbbb", ".heads.cccccccc", ".heads.mine.dddddddd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("a note")
    with held(tmp_path / ".heads.cccccccc"):
        report(told[2].id, address(bench), bench, tmp_path)
    assert {file.name for file in (tmp_path / "heads").iterdir()} == FILES | {"mine.txt"}
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"README.md", "heads", ".heads.cccccccc", ".heads.mine.dddddddd"}


def small(**changes: Any) -> Made:
    """`heads` with two seeds."""
    return heads(**{"seeds": [0, 1]} | changes)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (heads(id="unheard", seeds=[0]), "experiment='never': no sweep of it in sqlite:"),
        (small(loss=lambda *_: "failed"), "sweep='heads': none of its 10 runs has finished"),
        (small(ablation=asked(baseline={HEADS: 3})), "must fit one arm of the sweep, not 0; there"),
        (small(ablation=asked(matters=None)), "ablation.matters=None: must be there"),
        (small(ablation=asked(claim={"kind": "best"})), "ablation.claim.kind='best': must be one of"),
        (small(metrics=("val/loss",)), "10 of 10 finished runs have no val/bpc"),
        (small(metrics=()), "10 of 10 finished runs have no val/loss"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_one_line(
    bench: Path, tmp_path: Path, run: Within, made: Made, line: str
) -> None:
    log_sweep(bench, made)
    name = "never" if made.id == "unheard" else made.id
    out = tmp_path / "experiments"
    ended = run("report", name, "--uri", address(bench), "--out", str(out))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("microgpt: ")
    assert line in ended.err
    assert ended.err.count("\n") == 1
    assert not out.exists()


def test_a_store_that_is_not_there(tmp_path: Path, run: Within) -> None:
    ended = run("report", "heads", "--uri", f"sqlite:///{tmp_path}/none.db")
    assert ended.code == 2
    assert "none.db': no store there" in ended.err
    assert not list(tmp_path.iterdir())


def test_an_empty_store(outputs: Path, run: Within) -> None:
    ended = run("report", "heads", "--uri", f"sqlite:///{outputs}/mlflow.db")
    assert ended.code == 2
    assert "experiment='heads': no sweep of it" in ended.err
    assert "there are no sweeps of experiments" in ended.err


def test_a_figure_changed_in_the_store_is_caught(bench: Path) -> None:
    made = heads(seeds=[0, 1])
    parent = log_sweep(bench, made)
    client = MlflowClient(address(bench))
    home = client.get_experiment_by_name("microgpt")
    assert home
    query = f"tags.`mlflow.parentRunId` = '{parent}' AND attributes.run_name = 'n_head=2 seed=1'"
    (one,) = client.search_runs([home.experiment_id], query)
    client.log_metric(one.info.run_id, "val/loss", 1.0, step=200, timestamp=2_000_000_000_000)
    problem = r"'n_head=2 seed=1': val/loss is 1.0 in the store and 2.* in its metrics.jsonl"
    with pytest.raises(BadValue, match=problem):
        examine(client, made.id, "")


def test_artifacts_that_are_gone_are_named(bench: Path) -> None:
    made = heads(seeds=[0])
    parent = log_sweep(bench, made)
    client = MlflowClient(address(bench))
    home = client.get_experiment_by_name("microgpt")
    assert home
    members = client.search_runs([home.experiment_id], f"tags.`sweep.{made.id}` != ''")
    for name in ("samples.txt", "config.yaml"):
        (bench / f"artifacts/microgpt/{members[0].info.run_id}/artifacts/{name}").unlink()
        with pytest.raises(BadValue, match=rf"its artifact {name} is not in the store"):
            examine(client, made.id, "")
    (bench / f"artifacts/microgpt/{parent}/artifacts/sweep.json").unlink()
    with pytest.raises(BadValue, match=r"its run has no sweep\.json"):
        examine(client, made.id, "")


def test_neighbours_broken_locks_stop_no_report(
    bench: Path, told: tuple[Path, str, Made], tmp_path: Path, run: Within
) -> None:
    lock = read_lock(told[0] / LOCK)  # all that a lock has, and values that no report has
    lock["table"] = [{**row, "difference": 3, "word": 5} for row in lock["table"]]
    contents = ["{", "[]", "{}", text_of({"schema": SCHEMA}), text_of({"schema": SCHEMA + 1})]
    contents += [text_of({"ablation": {}})]
    strange = [lock, read_lock(told[0] / LOCK) | {"runs": [{}]}]
    contents += [text_of({k: v for k, v in each.items() if k != "digest"}) for each in strange]
    neighbours = [tmp_path / f"other{i}" / LOCK for i in range(len(contents) + 1)]
    for neighbour, content in zip(neighbours, contents):
        neighbour.parent.mkdir()
        neighbour.write_text(content)
    neighbours[-1].mkdir(parents=True)
    client = MlflowClient(address(bench))
    client.set_tag(told[1], "verdict", "none")
    ended = run("report", told[2].id, "--uri", address(bench), "--out", str(tmp_path))
    assert ended.code == 0, ended
    lines = ended.err.splitlines()
    for line, neighbour in zip(lines, neighbours, strict=True):
        assert line.startswith(f"microgpt: {neighbour}: ")
    assert (tmp_path / "heads/README.md").is_file()
    assert "## heads" in (tmp_path / "README.md").read_text()
    assert client.get_run(told[1]).data.tags["verdict"] == "supported"
