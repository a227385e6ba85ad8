"""Finds the runs and the sweeps of a store by what a user calls them.

A sweep has a run of its own in the store, the parent of its jobs' runs, with the tag `sweep.id`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from microgpt.core.check import BadValue
from microgpt.run.folder import SHORTEST
from microgpt.tracking.owner import NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SWEEP = "tags.`sweep.id` != ''"
LOSS = "val/loss"
QUOTE = "'"  # what a query cannot hold, and no id has
LATEST = ["attributes.start_time DESC"]
PAGE = 1000  # runs a query: more might take a server longer than it is waited for


def find_runs(client: "MlflowClient", name: str) -> "list[Run]":
    """The runs with this id or MLflow id; without one, those with an id that begins so."""
    return _called(client, name, NAME)


def searched(
    client: "MlflowClient", homes: Sequence[str], query: str, order: Sequence[str] = ()
) -> "list[Run]":
    """All runs of some experiments that satisfy a query."""
    found: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            list(homes), query, max_results=PAGE, order_by=list(order), page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def members(client: "MlflowClient", home: str, sweep: str) -> "list[Run]":
    """The runs of a sweep in the experiment `home`, by the tag that they have in common; latest first."""
    return searched(client, [home], f"tags.`sweep.{sweep}` != ''", LATEST)


def find_parent(client: "MlflowClient", name: str, store: str) -> "Run":
    """The latest sweep of an experiment, or the one with this id, MLflow id or a prefix of one.

    Raises BadValue.
    """
    homes = _homes(client)
    named = f"tags.`sweep.experiment` = '{name}' AND {SWEEP}"
    if name and QUOTE not in name:
        for found in client.search_runs(homes, named, max_results=1, order_by=LATEST):
            return found
    called = _called(client, name, "sweep.id", f" AND {SWEEP}")
    if len(called) == 1:
        return called[0]
    if called:
        many = ", ".join(run.data.tags["sweep.id"] for run in called[:3])
        raise BadValue("sweep", name, f"prefix of more than one in {store} ({many}, ...)")
    raise BadValue("experiment", name, f"no sweep of it in {store}; {_experiments(client)}")


def _experiments(client: "MlflowClient") -> str:
    """What experiments have sweeps, for a message."""
    parents = client.search_runs(_homes(client), "tags.`sweep.experiment` != ''")
    names = sorted({run.data.tags["sweep.experiment"] for run in parents})
    return f"there are {', '.join(names)}" if names else "there are no sweeps of experiments"


def find_best(client: "MlflowClient", name: str, store: str) -> "Run":
    """The finished run with the lowest last validation loss of a sweep, named as `find_parent` takes it.

    Raises BadValue.
    """
    parent = find_parent(client, name, store)
    query = f"tags.`sweep.{parent.data.tags['sweep.id']}` != '' AND attributes.status = 'FINISHED'"
    home, order = [str(parent.info.experiment_id)], [f"metrics.`{LOSS}` ASC"]
    for run in client.search_runs(home, query, max_results=1, order_by=order):
        if LOSS in run.data.metrics:
            return run
    raise BadValue("sweep", name, f"no finished run of it has a {LOSS}")


def find_shown(client: "MlflowClient", name: str, store: str) -> "Run":
    """The run, or the run of the sweep, that has this name. Raises BadValue."""
    try:
        return find_parent(client, name, store)
    except BadValue as error:
        found = find_runs(client, name)
        if len(found) == 1:
            return found[0]
        if found or error.key != "experiment":
            raise
        there = _experiments(client)
        raise BadValue("name", name, f"no run and no sweep of it in {store}; {there}") from error


def _called(client: "MlflowClient", name: str, tag: str, also: str = "") -> "list[Run]":
    """The runs whose tag or MLflow id is `name`; without one, those where one of them begins so."""
    if QUOTE in name:
        return []
    homes, keys = _homes(client), ("attributes.run_id", f"tags.`{tag}`")
    for condition in (f"= '{name}'", *([f"LIKE '{name}%'"] if len(name) >= SHORTEST else [])):
        runs = [
            run for key in keys for run in client.search_runs(homes, f"{key} {condition}{also}")
        ]
        begun = {
            run.info.run_id: run
            for run in runs  # in LIKE, `_` and `%` stand for other characters, too
            if any(id.startswith(name) for id in (run.info.run_id, run.data.tags.get(tag, "")))
        }
        if begun:
            return list(begun.values())
    return []


def _homes(client: "MlflowClient") -> list[str]:
    return [str(there.experiment_id) for there in client.search_experiments()]
