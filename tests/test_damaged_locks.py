"""A lock that says what none can: each is refused in a line, or contradicts itself; nothing is executed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import read_lock
from microgpt.ablation.reproduce.contradictions import contradictions, edited_since
from microgpt.ablation.reproduce.replay import Difference
from microgpt.ablation.reproduce.retrain import built_again
from microgpt.trust import OURS_ALONE, Untrusted
from tests.command import Ended, Within
from tests.rates import edit
from tests.running import REPOSITORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The report of an experiment with a power law and a tuning."""
    return Path(shutil.copytree(REPOSITORY / "experiments/width", tmp_path / "experiments/width"))


@pytest.fixture
def verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """`microgpt verify width` in a folder with a copy of the report."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: Within(monkeypatch, capfd)("verify", "width", "--seed", "0", *words)


def test_a_lock_that_is_none(folder: Path, verify: Callable[..., Ended]) -> None:
    for text in ("{", "[]", "{}"):
        (folder / "results.lock.json").write_text(text)
        ended = verify()
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended


@pytest.mark.parametrize("words", [("verify",), ("report", "--from-lock", "--out", "experiments")])
def test_figures_that_have_no_logarithm_are_named(
    words: tuple[str, ...],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    edit(folder, lambda lock: lock["runs"][0]["metrics"].update({"test/loss": 0.0}))
    monkeypatch.chdir(folder.parent.parent)
    command, *others = words
    ended = Within(monkeypatch, capfd)(command, "width", *others)
    assert ended.code in (1, 2), ended
    assert "its figures are out of range" in ended.out + ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words",
    [
        ["engine._target_=builtins.open", "+engine.file=FILE", "+engine.mode=w"],
        ["+engine={_target_:builtins.open,file:FILE,mode:w}"],
        ["engine=../../../..FOLDER/evil"],
        ["+model/extra=/evil"],
        ["data.path=${oc.env:HOME}"],
        ["model/norm@model._target_=rmsnorm"],
    ],
)
def test_words_of_a_lock_name_no_code(words: list[str], tmp_path: Path) -> None:
    """The question of its experiment's file is composed with them."""
    file = tmp_path / "mine.txt"
    file.write_text("mine")
    (tmp_path / "evil.yaml").write_text(f"_target_: builtins.open\nfile: {file}\nmode: w\n")
    lock = read_lock(REPOSITORY / "experiments/heads/results.lock.json")
    assert edited_since(lock) is None
    own = [word.replace("FILE", str(file)).replace("FOLDER", str(tmp_path)) for word in words]
    lock["sweep"]["overrides"] = own
    with pytest.raises(Untrusted, match="must name no class and no file"):
        edited_since(lock)
    assert file.read_text() == "mine"


def test_what_a_lock_of_todays_code_cannot_say(folder: Path, verify: Callable[..., Ended]) -> None:
    lock = read_lock(REPOSITORY / "experiments/width/results.lock.json")
    base = built_again(lock, lock["runs"][0], None, OURS_ALONE)
    assert list(contradictions(lock, base)) == []
    for word in ("hydra.sweeper.ablation.matters=0.5", "+experiment=heads", "~skip"):
        other = {**lock, "sweep": {**lock["sweep"], "overrides": [word]}}
        found = edited_since(other)
        assert isinstance(found, Difference)
        assert found.verdict == "the lock contradicts itself in sweep.overrides"
    unknown = edited_since({**lock, "sweep": {**lock["sweep"], "overrides": ["model.nothing=1"]}})
    assert isinstance(unknown, Difference)
    assert unknown.verdict.endswith("width.yaml cannot be asked as the lock says")
    (cut,) = contradictions({**lock, "tuning": None}, base)
    assert cut.verdict == "the lock contradicts itself in tuning"
    edit(folder, lambda lock: lock.update(experiment="../../evil"))
    assert "experiment must be the name of an experiment, but is" in verify().err
    edit(folder, lambda lock: lock.update(experiment="width", runs=[]))
    assert verify().err.endswith("has no finished run\n")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("removed", 3, "run 1: removed must be a list, each a text, but is 3"),
        ("removed", ["model.nothing"], "key='model.nothing': does not fit"),
        ("overrides", {"seed.x": 1}, "key='seed.x': does not fit"),
        ("fingerprint", [], "run 1: fingerprint must be a mapping of texts, but is []"),
        ("metrics", {"val/loss": 0, "train/loss": "x"}, "run 1: metrics must be a mapping of"),
    ],
)
def test_what_a_run_cannot_have_is_named(
    key: str, value: Any, says: str, folder: Path, verify: Callable[..., Ended]
) -> None:
    edit(folder, lambda lock: lock["runs"][0].update({key: value}))
    ended = verify()
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
    assert says in ended.err


@pytest.mark.parametrize("key", ["held_out_sha256", "samples_sha256", "n_params", "signature"])
def test_what_a_run_has_not_is_named(key: str, folder: Path, verify: Callable[..., Ended]) -> None:
    edit(folder, lambda lock: lock["runs"][0].pop(key))
    ended = verify()
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
    assert f"run 1: has no {key}" in ended.err
