"""Wrong input where there are runs and folders already: they stay as they are."""

from pathlib import Path

import pytest

from tests.command import NAMES, OFFLINE, TINY, Within, files, refused, spelt


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """The id of a run on a few names, stopped half way."""
    (place / "names.txt").write_text("\n".join(NAMES))
    words = ["data.path=names.txt", "trainer.stop_after=1"]
    ended = Within(monkeypatch, capfd)("train", *TINY, *OFFLINE, *words)
    assert (ended.code, ended.err) == (0, "")
    (folder,) = (place / "outputs/runs").iterdir()
    return folder.name


def test_a_run_that_is_there_keeps_its_own(
    run: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before, within = files(place), Within(monkeypatch, capfd)
    refused(within("train", f"resume={run}", "model.n_layer=2"), ["model.n_layer=2", "stop_after"])
    refused(within("train", f"resume={run}", "optimizer=sgd"), ["optimizer=sgd", "stop_after"])
    refused(within("sample", run, "--prompt", "aX"), ["prompt='aX'", "'X'", "vocabulary"])
    refused(within("sample", run, "--prompt", "a" * 11), ["prompt='aaaaaaaaaaa'", "block_size=10"])
    refused(within("sample", run, "--temperature", "-1"), ["temperature=-1", ">= 0"])
    refused(within("sample", run, "--top-p", "0"), ["top_p=0", "> 0"])
    refused(within("sample", run, "--seed", "-1"), ["seed=-1", ">= 0"])
    assert files(place) == before


def test_a_sample_needs_no_file_but_the_runs_own(
    run: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "names.txt").unlink()
    within = Within(monkeypatch, capfd)
    drawn = within("sample", run, "-n", "3", "--seed", "1", "--prompt", "an")
    assert (drawn.code, drawn.err) == (0, "")
    assert [line[:2] for line in drawn.out.splitlines()] == ["an"] * 3
    assert within("sample", run, "-n", "3", "--seed", "1", "--prompt", "an").out == drawn.out
    (place / f"outputs/runs/{run}/documents.txt").write_text("other\n")
    refused(within("sample", run), ["other documents"])


def test_a_folder_that_was_there_before_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files(place)
    ended = Within(monkeypatch, capfd)(*spelt("hydra.run.dir=. optimizer.lr=-1"))
    refused(ended, ["optimizer.lr=-1"])
    assert files(place) == before


@pytest.mark.parametrize("there", [[], [".lock"], [".lock", "notes.txt"]])
def test_a_folder_of_someone_elses_stays(
    there: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    for name in there:
        (theirs / name).touch()
    before = files(place)
    within = Within(monkeypatch, capfd)
    refused(within(*spelt("hydra.run.dir=theirs optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before
    refused(within(*spelt("hydra.run.dir=theirs/new/deeper optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before


def test_folders_of_runs_that_were_there_before_stay(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "outputs/runs").mkdir()
    (place / "outputs/sweeps").mkdir()
    before = files(place)
    refused(Within(monkeypatch, capfd)(*spelt("optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    "words",
    [
        *(["train", "resume={}"], ["train", "resume='{}'"], ["sample", "{}"], ["sync", "{}"]),
        *(["verify", "{}"], ["ui", "{}"], ["report", "{}"], ["compare", "{}", "{}"]),
        ["fork", "{}", "--at-step", "1"],
    ],
    ids=" ".join,
)
def test_an_empty_name_names_no_run(
    words: list[str],
    empty: str,
    run: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where there is one run without an MLflow id, which is empty too."""
    before = files(place)
    refused(Within(monkeypatch, capfd)(*(word.format(empty) for word in words)), ["must name"])
    assert files(place) == before
