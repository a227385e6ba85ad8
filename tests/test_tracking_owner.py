"""One store, several folders: each run has one owner; folders may be moved and copied."""

import json
import shutil
import time
from pathlib import Path

import pytest

from microgpt.core.events import Stepped
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED, RUNNING
from microgpt.tracking import owner
from microgpt.tracking.projection import Projection
from microgpt.tracking.sync import Store
from tests.running import history, recorded, rows_of, store, stored, untracked

UID, FOLDER = owner.UID, owner.FOLDER


def project(run: RunFolder, outputs: Path) -> Projection:
    """A folder, wherever it lies, projected into the store of `outputs`."""
    projection = Store(f"sqlite:///{outputs}/mlflow.db", outputs).project(run, "microgpt")
    assert isinstance(projection, Projection)
    projection.update()
    return projection


def end_anew(run: RunFolder, steps: int = 3) -> None:
    """Some more steps, and another end."""
    last = run.metrics()[-1]["step"]
    for step in range(int(last) + 1, int(last) + 1 + steps):
        run(Stepped(step, 0.5, 1, {"train/loss": 1 / step, "cost/seconds": 9.0 + step}))
    run.update(status=FINISHED, ended=time.time())


@pytest.fixture
def run(outputs: Path) -> RunFolder:
    """A finished run whose store has all."""
    made = untracked(outputs)
    project(made, outputs)
    return made


def test_a_folder_that_is_moved_goes_on_with_its_run(outputs: Path, run: RunFolder) -> None:
    moved = RunFolder(run.path.rename(outputs / "runs/moved"))
    project(moved, outputs)
    end_anew(moved)
    project(moved, outputs)
    (there,) = stored(outputs)
    assert there.data.tags[FOLDER].endswith(str(moved.path))
    assert history(store(outputs), there.info.run_id) == recorded(moved)


def test_a_copy_of_what_has_ended_sends_nothing(outputs: Path, run: RunFolder) -> None:
    copy = RunFolder(shutil.copytree(run.path, outputs.parent / "archive/here"))
    rows = rows_of(outputs)
    assert project(copy, outputs).run_id == run.mlflow_run_id
    assert rows_of(outputs) == rows
    assert stored(outputs)[0].data.tags[FOLDER].endswith(str(run.path))


def test_a_copy_that_goes_on_has_a_run_of_its_own(outputs: Path, run: RunFolder) -> None:
    copy = RunFolder(shutil.copytree(run.path, outputs.parent / "copied/here"))
    with copy.locked():
        copy.update(status=RUNNING, ended=None)
        projection = project(copy, outputs)
        assert projection.run_id != run.mlflow_run_id
        end_anew(copy)
        projection.update()
    project(run, outputs)
    shutil.rmtree(run.path)
    end_anew(copy, 1)
    assert project(copy, outputs).run_id == projection.run_id
    histories = [history(store(outputs), each.info.run_id) for each in stored(outputs)]
    longest = max(histories, key=lambda each: len(each["train/loss"]))
    assert longest == recorded(copy)
    assert sorted(len(each["train/loss"]) for each in histories) == [12, 16]


def test_a_copy_goes_on_with_the_run_of_a_folder_that_is_gone(
    outputs: Path, run: RunFolder
) -> None:
    """As after a move between file systems."""
    copy = RunFolder(shutil.copytree(run.path, outputs.parent / "copied/here"))
    shutil.rmtree(run.path)
    end_anew(copy)
    project(copy, outputs)
    (there,) = stored(outputs)
    assert history(store(outputs), there.info.run_id) == recorded(copy)


def test_a_folder_of_another_machine(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a copy, though it has the same path, unless it is the same folder on a shared disk."""
    run = untracked(outputs.parent / "mine")
    project(run, outputs)
    monkeypatch.setattr(owner, "gethostname", lambda: "elsewhere")
    end_anew(run)
    project(run, outputs)
    assert len(stored(outputs)) == 1
    monkeypatch.undo()
    run.path.rename(outputs / "old")
    copy = RunFolder(shutil.copytree(outputs / "old", run.path))
    end_anew(copy)
    project(copy, outputs)
    assert len(stored(outputs)) == 2


def test_outputs_that_are_copied_with_their_database(outputs: Path, run: RunFolder) -> None:
    """The copy goes on in its own; the original's stays as it was."""
    rows = rows_of(outputs)
    other = Path(shutil.copytree(outputs, outputs.parent / "other"))
    copy = RunFolder(other / "runs/here")
    end_anew(copy)
    assert project(copy, other).run_id == run.mlflow_run_id
    assert history(store(other), copy.mlflow_run_id) == recorded(copy)
    assert rows_of(outputs) == rows


def test_folders_with_the_same_question(outputs: Path, run: RunFolder) -> None:
    """As of two machines that train the same job of a sweep: two runs, whoever sends first."""
    twin = untracked(outputs.parent / "twin")
    assert twin.path.name == run.path.name
    for each in (twin, run, twin):
        project(each, outputs)
    first, second = stored(outputs)
    assert first.data.tags[UID] != second.data.tags[UID]
    for each in (run, twin):
        assert history(store(outputs), each.mlflow_run_id) == recorded(each)


def test_a_run_of_an_earlier_version_is_gone_on_with(outputs: Path, run: RunFolder) -> None:
    for key in (UID, FOLDER, owner.INODE):
        store(outputs).delete_tag(run.mlflow_run_id, key)
    info = {key: value for key, value in run.info.items() if key != "uid"}
    (run.path / "run.json").write_text(json.dumps(info))
    twin = RunFolder(shutil.copytree(run.path, outputs.parent / "twin/here"))
    end_anew(run)
    project(run, outputs)
    (there,) = stored(outputs)
    assert there.data.tags[FOLDER].endswith(str(run.path))
    end_anew(twin, 2)
    project(twin, outputs)
    assert len(stored(outputs)) == 2
    assert history(store(outputs), there.info.run_id) == recorded(run)
