"""Where a run is kept and tracked, when its command line says something unusual."""

import shutil
from pathlib import Path

import pytest

from microgpt.run.folder import RunFolder
from tests.command import TINY, Within

HERE = ("data=lines", f"data.path={Path(__file__).parent / 'golden' / 'names_tiny.txt'}")


@pytest.fixture
def microgpt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    """The command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("MICROGPT_OUTPUTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    return Within(monkeypatch, capfd)


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, microgpt: Within) -> None:
    words = ["train", *TINY, *HERE, "tracking=none", "hydra.run.dir=fixed"]
    assert microgpt(*words).code == 0
    before = (tmp_path / "fixed" / "metrics.jsonl").read_bytes()
    again = microgpt(*words, "seed=1")
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    assert "holds a run; go on with resume=" in again.err
    assert (tmp_path / "fixed" / "metrics.jsonl").read_bytes() == before


def test_a_resume_keeps_the_store_of_the_run(
    tmp_path: Path, microgpt: Within, store_template: Path
) -> None:
    (tmp_path / "other").mkdir()
    shutil.copy(store_template, tmp_path / "other" / "mlflow.db")
    words = ["train", *TINY, *HERE, "trainer.stop_after=1", "paths.outputs=other"]
    assert microgpt(*words, "hydra.run.dir=other/runs/one").code == 0
    run = RunFolder(tmp_path / "other" / "runs" / "one")
    first = run.mlflow_run_id
    resumed = microgpt("train", "resume=other/runs/one")
    assert resumed.code == 0, resumed
    assert run.mlflow_run_id == first
    assert not list(tmp_path.glob("outputs/mlflow.db"))


def test_an_empty_address_of_a_store_is_none(
    tmp_path: Path, microgpt: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    ended = microgpt("train", *TINY, *HERE)
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "outputs" / "mlflow.db").exists()


def test_a_preset_is_named_as_it_is_given(tmp_path: Path, microgpt: Within) -> None:
    for words in (["runs"], ["sweeps"]):
        assert microgpt(*words).out == "none\n"
    assert microgpt("train", *TINY, *HERE, "debug=nan", "progress=false").code == 0
    (run,) = tmp_path.glob("outputs/runs/*")
    assert RunFolder(run).info["name"].endswith(" debug=nan")
