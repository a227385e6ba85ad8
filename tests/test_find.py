"""Runs and sweeps of a store are found by what they are called, and by nothing that looks like it."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from microgpt.ablation.records.record import pointed
from microgpt.core.check import BadValue
from microgpt.run.folder import NoSuchRun
from microgpt.tracking import open_store, store_uri
from microgpt.tracking.find import find_parent, find_runs, find_shown


@pytest.fixture
def client(outputs: Path) -> MlflowClient:
    """A store with two runs and a sweep that has no experiment."""
    there = open_store(store_uri(None, outputs), outputs)
    home = there.create_experiment("found")
    for name in ("my_first_run", "my-first-run"):
        there.create_run(home, tags={"microgpt.id": name})
    there.create_run(home, tags={"sweep.id": "0123456789ab", "sweep.experiment": ""})
    return there


def named(client: MlflowClient, name: str) -> list[str]:
    return [run.data.tags["microgpt.id"] for run in find_runs(client, name)]


def test_a_wildcard_of_the_store_is_a_letter_of_a_name(client: MlflowClient) -> None:
    assert named(client, "my_first_run") == named(client, "my_first") == ["my_first_run"]
    assert named(client, "my-first") == ["my-first-run"]
    assert named(client, "my%first") == []


def test_what_is_to_be_shown_is_a_run_or_a_sweep(client: MlflowClient) -> None:
    assert find_shown(client, "my_first", "the store").data.tags["microgpt.id"] == "my_first_run"
    with pytest.raises(BadValue, match="name='nothing': no run and no sweep of it in the store"):
        find_shown(client, "nothing", "the store")


def test_a_prefix_of_many_run_folders_is_not_looked_for_in_the_store(tmp_path: Path) -> None:
    for name in ("20260101-a", "20260101-b"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    with pytest.raises(NoSuchRun, match=r"prefix of more than one run \(20260101-a, 20260101-b"):
        pointed(tmp_path, "2026")
    assert pointed(tmp_path, "2027") == ("2027", None)


@pytest.mark.parametrize("name", ["", "'", "''", "%", "'' OR ''", "%%%%%%%%"])
def test_a_name_of_signs_names_no_sweep(client: MlflowClient, name: str) -> None:
    with pytest.raises(BadValue, match="no sweep of it"):
        find_parent(client, name, "the store")
    assert find_parent(client, "01234567", "the store").data.tags["sweep.id"] == "0123456789ab"
