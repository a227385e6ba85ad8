"""Outputs that are deleted while a run trains: it says what is gone, and fails."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from microgpt.core.events import Event, Stepped
from microgpt.run.folder import RunFolder
from microgpt.run.record import FAILED, FINISHED
from tests.command import NAMES, OFFLINE, TINY, Within

WORDS = [
    *(
        "train",
        *TINY,
        *OFFLINE,
        "data.path=names.txt",
        "trainer.num_steps=8",
        "trainer.log_every=1",
    ),
    *("trainer.checkpoint_every=2", "hydra.run.dir=outputs/runs/here"),
]
RUN = Path("outputs/runs/here")


class Deletes:
    """Deletes something after a step; stands in for what shows a run."""

    def __init__(self, step: int, delete: Callable[[], object]) -> None:
        self.step, self.delete = step, delete

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.step == self.step:
            self.delete()


def delete_files() -> None:
    """All files, but no folder: what is written later is written all the same."""
    for file in Path("outputs").rglob("*"):
        if file.is_file():
            file.unlink()


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[int, Callable[[], object]], tuple[int, str, str]]:
    """Trains a run of 8 steps, and deletes something after one of them."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    monkeypatch.chdir(tmp_path)
    within = Within(monkeypatch, capfd)

    def train(step: int, delete: Callable[[], object]) -> tuple[int, str, str]:
        monkeypatch.setattr("microgpt.one_run.watcher", lambda *_: Deletes(step, delete))
        ended = within(*WORDS)
        return ended.code, ended.out, ended.err

    return train


@pytest.mark.parametrize("step", [3, 8])
@pytest.mark.parametrize(
    ("delete", "gone"),
    [
        (lambda: shutil.rmtree("outputs"), ["config.yaml", "run.json"]),
        (delete_files, ["run.json"]),
        ((RUN / "metrics.jsonl").unlink, ["metrics.jsonl"]),
        ((RUN / "config.yaml").unlink, ["config.yaml"]),
    ],
    ids=["all", "files", "metrics", "config"],
)
def test_deleted_outputs(
    train: Callable[..., tuple[int, str, str]],
    delete: Callable[[], object],
    gone: list[str],
    step: int,
) -> None:
    code, out, err = train(step, delete)
    assert (code, out, err.count("\n")) == (1, "", 1), out + err
    assert err.startswith(f"microgpt: {RUN.absolute()}")
    assert not [name for name in gone if name not in err]
    if (RUN / "run.json").exists():
        assert RunFolder(RUN).info["status"] == FAILED


def test_old_checkpoints_may_be_deleted(train: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = train(5, (RUN / "checkpoints/step-2.safetensors").unlink)
    assert (code, err) == (0, "")
    assert RunFolder(RUN).status == FINISHED


@pytest.mark.parametrize("step", [1, 8])
def test_their_folder_is_made_again(step: int, train: Callable[..., tuple[int, str, str]]) -> None:
    """Where the next thing that a run does is to write a checkpoint."""
    code, _, err = train(step, lambda: shutil.rmtree(RUN / "checkpoints"))
    assert (code, err) == (0, "")
    assert RunFolder(RUN).status == FINISHED


def test_the_last_checkpoint_is_needed(train: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = train(3, lambda: shutil.rmtree(RUN / "checkpoints"))
    assert (code, out) == (1, "")
    assert "deleted during the run: checkpoints/step-2.safetensors; " in err
    assert RunFolder(RUN).info["status"] == FAILED


def test_what_is_left_stands_in_nobodys_way(
    train: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert train(3, delete_files)[0] == 1
    ended = Within(monkeypatch, capfd)("runs")
    assert (ended.code, ended.err) == (0, "")
    assert "here" not in ended.out
