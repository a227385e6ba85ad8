"""Finds the runs and the sweeps of a store by what a user calls them.

A sweep has a run of its own in the store, the parent of its jobs' runs, with the tag `sweep.id`.
"""

from typing import TYPE_CHECKING

from microgpt.core.check import BadValue
from microgpt.run.folder import SHORTEST
from microgpt.tracking.owner import NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SWEEP = "tags.`sweep.id` != ''"
LATEST = ["attributes.start_time DESC"]


def find_runs(client: "MlflowClient", name: str) -> "list[Run]":
    """The runs with this id or MLflow id; without one, those with an id that begins so."""
    return _called(client, name, ("attributes.run_id", f"tags.`{NAME}`"))


def find_parent(client: "MlflowClient", name: str, store: str) -> "Run":
    """The latest sweep of an experiment, or the one with this id, MLflow id or a prefix of one.

    Raises BadValue.
    """
    homes = _homes(client)
    named = f"tags.`sweep.experiment` = '{_safe(name)}' AND {SWEEP}"
    if found := client.search_runs(homes, named, max_results=1, order_by=LATEST):
        return found[0]
    called = _called(client, name, ("tags.`sweep.id`", "attributes.run_id"), f" AND {SWEEP}")
    if len(called) == 1:
        return called[0]
    if called:
        many = ", ".join(run.data.tags["sweep.id"] for run in called[:3])
        raise BadValue("sweep", name, f"prefix of more than one in {store} ({many}, ...)")
    parents = client.search_runs(homes, "tags.`sweep.experiment` != ''")
    names = sorted({run.data.tags["sweep.experiment"] for run in parents})
    there = f"there are {', '.join(names)}" if names else "there are no sweeps of experiments"
    raise BadValue("experiment", name, f"no sweep of it in {store}; {there}")


def find_shown(client: "MlflowClient", name: str, store: str) -> "Run":
    """The run, or the run of the sweep, that has this name. Raises BadValue."""
    try:
        return find_parent(client, name, store)
    except BadValue:
        found = find_runs(client, name)
        if len(found) != 1:
            raise
        return found[0]


def _called(
    client: "MlflowClient", name: str, keys: tuple[str, ...], also: str = ""
) -> "list[Run]":
    """The runs of which one of these has the value `name`; without one, those where it begins so."""
    safe, homes = _safe(name), _homes(client)
    for condition in (f"= '{safe}'", *([f"LIKE '{safe}%'"] if len(safe) >= SHORTEST else [])):
        queries = (f"{key} {condition}{also}" for key in keys)
        runs = [run for query in queries for run in client.search_runs(homes, query, max_results=9)]
        if runs:
            return list({run.info.run_id: run for run in runs}.values())
    return []


def _homes(client: "MlflowClient") -> list[str]:
    return [str(there.experiment_id) for there in client.search_experiments()]


def _safe(name: str) -> str:
    """A name without what has a meaning in a query."""
    return name.translate({ord(each): None for each in "'%"})
