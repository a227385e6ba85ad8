"""Runs and sweeps of a store are found by what they are called, and by nothing that looks like it."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from microgpt.core.check import BadValue
from microgpt.tracking import open_store, store_uri
from microgpt.tracking.find import find_parent, find_runs


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


@pytest.mark.parametrize("name", ["", "'", "''", "%", "'' OR ''", "%%%%%%%%"])
def test_a_name_of_signs_names_no_sweep(client: MlflowClient, name: str) -> None:
    with pytest.raises(BadValue, match="no sweep of it"):
        find_parent(client, name, "the store")
    assert find_parent(client, "01234567", "the store").data.tags["sweep.id"] == "0123456789ab"
