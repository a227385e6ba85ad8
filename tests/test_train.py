"""Where a run is kept and tracked, when its command line says something unusual."""

from pathlib import Path

from microgpt.run.folder import RunFolder
from tests.command import TINY, command

HERE = ("data=lines", f"data.path={Path(__file__).parent / 'golden' / 'names_tiny.txt'}")


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    words = ["train", *TINY, *HERE, "tracking=none", "hydra.run.dir=fixed"]
    assert command(words, tmp_path).code == 0
    before = (tmp_path / "fixed" / "metrics.jsonl").read_bytes()
    again = command([*words, "seed=1"], tmp_path)
    assert (again.code, again.out, again.err.count("\n")) == (2, "", 1)
    assert "holds a run; go on with resume=" in again.err
    assert (tmp_path / "fixed" / "metrics.jsonl").read_bytes() == before


def test_a_resume_keeps_the_store_of_the_run(tmp_path: Path) -> None:
    words = ["train", *TINY, *HERE, "trainer.stop_after=1", "paths.outputs=other"]
    assert command([*words, "hydra.run.dir=other/runs/one"], tmp_path).code == 0
    run = RunFolder(tmp_path / "other" / "runs" / "one")
    first = run.mlflow_run_id
    resumed = command(["train", "resume=other/runs/one"], tmp_path)
    assert resumed.code == 0, resumed
    assert run.mlflow_run_id == first
    assert not list(tmp_path.glob("outputs/mlflow.db"))


def test_an_empty_address_of_a_store_is_none(tmp_path: Path) -> None:
    ended = command(["train", *TINY, *HERE], tmp_path, MLFLOW_TRACKING_URI="")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "outputs" / "mlflow.db").exists()
