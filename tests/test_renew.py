"""`microgpt report --from-lock`: a report that is written anew from its lock alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Ended, Within
from tests.rates import edit, reported


@pytest.fixture(scope="module")
def experiments(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep that was trained: two arms, two seeds, and one run that failed."""
    return reported(store_template, tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def folder(experiments: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(experiments / "rates", tmp_path / "experiments/rates"))


@pytest.fixture
def again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`microgpt report --from-lock` in a folder with a copy of the report and no store."""
    monkeypatch.chdir(tmp_path)
    words = ("report", "--publish", "--from-lock")
    return lambda *others: Within(monkeypatch, capfd)(*words, *others)


def test_a_page_is_written_anew_from_its_lock(folder: Path, again: Callable[..., Ended]) -> None:
    """As it was, byte for byte; only what needs other code, or is said of others, may change."""
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    ended = again("rates")
    assert ended.code == 0, ended
    assert ended.out.endswith("written to experiments/rates, from its lock\n")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    page = folder / "README.md"
    page.write_text(page.read_text().replace("## Limits", "## What is not said"))
    edit(folder, lambda lock: lock.update(multiplier_intervals={}, because="None", flattened=None))
    assert again("rates").code == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_lock_of_the_schema_before_is_written_anew(
    folder: Path,
    again: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Without what it did not have: clock times, and the words of commands."""
    lacking = ("took", "words", "shares", "repeats", "multiplier_intervals")
    edit(folder, lambda lock: [lock.pop(key) for key in lacking] and lock.update(schema=2))
    verify = ("verify", "rates", "--seed", "0")
    ended = Within(monkeypatch, capfd)(*verify)
    assert ended.code == 2
    assert "reads schema 3; `microgpt report rates --from-lock` writes it anew" in ended.err
    assert again("rates").code == 0
    assert "## What it took" not in (folder / "README.md").read_text()
    assert Within(monkeypatch, capfd)(*verify).code == 0


def test_a_page_whose_documents_are_gone_is_not_written_anew(
    folder: Path, again: Callable[..., Ended], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("anna\nbert\ncarla\ndora\nemil\nfritz\n" * 4)
    for words in (["--data", "mine.txt"], ["--uri", "sqlite:///x.db"]):
        ended = again("rates", *words)
        assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert ended.err.startswith("microgpt: --uri='sqlite:///x.db': not with --from-lock")


def test_a_page_that_was_altered_is_not_written_anew(
    folder: Path, again: Callable[..., Ended]
) -> None:
    page = folder / "README.md"
    page.write_text(page.read_text().replace("2.", "1."))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    ended = again("rates")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "README.md has other numbers than were written" in ended.err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_no_page_is_written_without_a_lock(folder: Path, again: Callable[..., Ended]) -> None:
    ended = again("nosuch")
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "experiments/nosuch/results.lock.json" in ended.err
    assert not (folder.parent / "nosuch").exists()
