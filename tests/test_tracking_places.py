"""Which store a run is sent to: of any name, by the environment, replaced or made read-only meanwhile."""

import os
import shutil
from pathlib import Path

import pytest

from microgpt.core.check import BadValue
from microgpt.run.folder import all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.tracking import open_store, store_uri, sync
from microgpt.tracking.address import database_file, file_uri, own_database
from microgpt.tracking.sender import Sending
from microgpt.tracking.store import experiment_id
from microgpt.tracking.sync import Store
from tests.command import Within
from tests.running import NOWHERE, SHORT, TINY, history, recorded, stored, train_here, untracked

ODD = ["a%20b", "a?b", "a b%"]


def test_the_environment_names_the_store(
    outputs: Path, store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(store_template, other / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}/mlflow.db")
    train_here(outputs, *SHORT, "tracking.experiment=mine")
    assert stored(outputs, "mine") == []
    (there,) = stored(other, "mine")
    assert there.info.artifact_uri.startswith((outputs / "artifacts/mine").as_uri())


def test_a_sweep_is_kept_for_the_store_of_its_runs(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The environment may name another one when they are sent."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    words = ["train", "-m", *TINY, "hydra/launcher=basic", "trainer.num_steps=1", "seed=1,2"]
    ended = Within(monkeypatch, capfd)(*words)
    assert "later: microgpt sync" in ended.err
    assert "microgpt report" not in ended.out  # which needs the store
    folders = [*all_runs(outputs), *all_sweeps(outputs)]
    assert [folder.config["tracking"]["uri"] for folder in folders] == [NOWHERE] * 3


@pytest.mark.parametrize("name", ODD)
def test_a_database_lies_where_it_is_asked_for(
    name: str, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = outputs.parent / name / "outputs"
    odd.mkdir(parents=True)
    shutil.copy(outputs / "mlflow.db", odd)
    before = {*outputs.parent.iterdir()}
    code, run = train_here(odd, *SHORT)
    assert code == 0
    client = open_store(store_uri(None, odd), odd)
    assert history(client, run.mlflow_run_id) == recorded(run)
    there = client.get_run(run.mlflow_run_id).info
    assert (there.status, there.lifecycle_stage) == ("FINISHED", "active")
    assert (odd / f"artifacts/microgpt/{run.mlflow_run_id}/artifacts/run.json").is_file()
    assert {*outputs.parent.iterdir()} == before


@pytest.mark.slow
def test_a_database_is_made_where_it_is_asked_for(tmp_path: Path) -> None:
    odd = tmp_path / "50%25?x" / "outputs"
    code, _ = train_here(odd, *SHORT)
    assert code == 0
    assert (odd / "mlflow.db").is_file()
    assert os.listdir(tmp_path) == ["50%25?x"]


@pytest.mark.parametrize("name", [*ODD, "usual"])
def test_an_address_names_its_file(name: str) -> None:
    assert database_file(file_uri(Path("/x", name))) == Path("/x", name)
    assert file_uri(Path("/x/usual")) == "sqlite:////x/usual"
    assert database_file("sqlite:////x/y.db?timeout=5") == Path("/x/y.db")
    assert database_file("sqlite:///:memory:") is None
    assert database_file("postgresql://host/name") is None


def tried(sending: Sending) -> str:
    """What sending once complains of. A store that answers is asked anew from then on."""
    sending.go_on()
    if sending.problem:
        sending.store.silence()
    return sending.problem or ""


def test_a_database_that_is_replaced(outputs: Path) -> None:
    """By an older one, which gets what it lacks; by another file, which is told in one line."""
    run, uri, file = untracked(outputs), store_uri(None, outputs), outputs / "mlflow.db"
    shutil.copy(file, outputs / "older.db")
    store = Store(uri, outputs)
    assert tried(Sending(store, run, "microgpt")) == ""
    other = untracked(outputs, name="other")
    (outputs / "older.db").replace(file)
    both = [Sending(store, each, "microgpt") for each in (other, run)]
    assert (
        tried(both[0]) == f"{uri}: (sqlite3.OperationalError) attempt to write a readonly database"
    )
    for sending in both:
        assert tried(sending) == ""
        client = open_store(uri, outputs)
        assert history(client, sending.folder.mlflow_run_id) == recorded(sending.folder)
    third = untracked(outputs, name="third")
    (outputs / "words").write_text("no database\n" * 100)
    (outputs / "words").replace(file)
    last = Sending(store, third, "microgpt")
    assert tried(last) == f"{uri}: (sqlite3.OperationalError) attempt to write a readonly database"
    assert tried(last) == f"{uri}: (sqlite3.DatabaseError) file is not a database"
    assert str(next(sync([run], None, outputs))).endswith("file is not a database")


@pytest.mark.parametrize("name", ["../../out", "/out", "a/../../../out"])
def test_an_experiment_of_a_strangers_folder_stays_in_the_outputs(
    tmp_path: Path, name: str
) -> None:
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    uri = own_database(outputs)
    with pytest.raises(BadValue, match="without"):
        experiment_id(open_store(uri, outputs), name, uri, outputs)
    assert [*tmp_path.iterdir()] == [outputs]
