"""Where to look in MLflow's UI: the address of the runs table, set up for comparing runs.

The UI opens an experiment on a view for other purposes, without params and metrics. Its address can
name a *shared view state*, a tag of the experiment, whose format `state` knows.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.core.check import BadValue
from microgpt.secret import public
from microgpt.tracking.address import is_web, store_words
from microgpt.tracking.find import find_shown
from microgpt.tracking.labels import comparable
from microgpt.tracking.state import (
    FIGURES,
    LOSS,
    Group,
    by_arm,
    colour,
    column,
    fitting,
    grouped,
    numeric,
    view_state,
)
from microgpt.tracking.store import open_store, problem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "microgpt"  # of the view of all runs
MENU = "workflowType=machine_learning"  # else the page has the menu for other purposes
LOOKED_AT = 200  # the latest runs decide the columns
LOADED = 100  # runs that the UI loads at a time; its means are of those
PARAMS = 8  # columns at most
BEST = column("metrics", LOSS), True  # the order of rows: lowest first


def runs_address(store: str, outputs: Path, server: str, wanted: str | None = None) -> str:
    """Where the wanted run, or the runs of the wanted sweep, are shown; named as `find_shown` takes it.

    Without a wish it is the latest sweep if the latest run is one of its, else all runs of the
    latest run's experiment. Raises BadValue if the store has no such runs.
    """
    try:
        client = open_store(store, outputs)
        latest = [] if wanted else latest_runs(client)
    except Exception as error:  # whatever a store may raise
        raise BadValue("uri", store, problem(error)) from error
    if wanted:
        shown = find_shown(client, wanted, store)
        if not is_sweep(shown):
            return run_address(server, str(shown.info.run_id), str(shown.info.experiment_id))
        if not _has_begun(client, shown):
            raise BadValue("sweep", wanted, "none of its runs has begun: there is nothing to show")
    else:
        begun = (run for run in latest if not is_sweep(run) or _has_begun(client, run))
        if (first := next(begun, None)) is None:
            raise BadValue("uri", store, "no runs yet; `microgpt train` makes the first")
        shown = first
    experiment = str(shown.info.experiment_id)
    view = sweep_of(shown)
    if not view:
        view = KEY
        set_view(client, experiment, view, all_runs_state(latest))
    return view_address(server, experiment, view)


def is_sweep(run: "Run") -> bool:
    """Whether a run stands for a sweep."""
    return "sweep.id" in run.data.tags


def _has_begun(client: "MlflowClient", sweep: "Run") -> bool:
    """Whether any run of a sweep is in the store."""
    query = f"tags.`sweep.{sweep.data.tags['sweep.id']}` != ''"
    return bool(client.search_runs([str(sweep.info.experiment_id)], query, max_results=1))


def view_address(server: str, experiment: str, view: str) -> str:
    """Where MLflow's UI shows an experiment as the view says."""
    page = f"{server}/#/experiments/{experiment}/runs"
    return f"{page}?{MENU}&viewStateShareKey={view}"


def run_address(server: str, run_id: str, experiment: str | None = None) -> str:
    """Where MLflow's UI shows a run; of a known experiment in the menu for training."""
    if experiment is None:
        return f"{server}/#/runs/{run_id}"
    return f"{server}/#/experiments/{experiment}/runs/{run_id}?{MENU}"


def sweep_shown(store: str, outputs: Path, experiment: str, sweep: str) -> str:
    """What shows a sweep: the address on a server, or the command that starts one."""
    if is_web(store):
        return view_address(public(store).rstrip("/"), experiment, sweep)
    return shlex.join(["microgpt", "ui", sweep, *store_words(store, outputs)])


def run_shown(store: str, outputs: Path, name: str, run_id: str) -> str:
    """What shows a run, likewise."""
    if is_web(store):
        return run_address(public(store).rstrip("/"), run_id)
    return shlex.join(["microgpt", "ui", name, *store_words(store, outputs)])


def set_view(client: "MlflowClient", experiment: str, key: str, state: Mapping[str, Any]) -> None:
    """Keep a view of MLflow's UI under `key`, as the UI itself does when a view is shared."""
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{key}", json.dumps(state))


def set_sweep_view(
    client: "MlflowClient", experiment: str, sweep: Mapping[str, Any], only_finished: bool = False
) -> None:
    """Keep the view of a sweep under its id: its runs alone, by arm, averaged over seeds."""
    set_view(client, experiment, sweep["id"], sweep_state(sweep, only_finished))


def sweep_state(sweep: Mapping[str, Any], only_finished: bool = False) -> dict[str, Any]:
    """The view of a sweep, whose runs may be still to come.

    Arms of one number come in its order, others the best first; those of more runs than are loaded
    at once by seed, or the means would be of the first arms, or of the best runs, alone. The seed is
    a tag's column: a group would show the mean of a param.

    only_finished  leaves out runs that failed or were stopped, whose last figures are no results
    """
    arms = {key.replace("/", "."): values for key, values in sweep["grid"].items() if key != "seed"}
    params = list(arms)[:PARAMS]
    selected = [column("params", key) for key in params]
    selected += [column("tags", "seed")] if "seed" in sweep["grid"] else []
    selected += [column("metrics", key) for key in FIGURES]
    order = BEST
    if len(arms) == 1 and numeric(arms[params[0]]):
        order = column("params", params[0]), True
    if "seed" in sweep["grid"] and len(sweep["jobs"]) > LOADED:
        order = column("tags", "seed"), True
    names = [job["arm"] for job in sweep["jobs"]]
    state = view_state(loss_first(selected), order, names)
    state["searchFilter"] = f"tags.`sweep.{sweep['id']}` != ''"
    if only_finished:
        state["searchFilter"] += " AND attributes.status = 'FINISHED'"
    if params:
        state["compareRunCharts"].insert(1, by_arm({key: arms[key] for key in params}))
    if "seed" not in sweep["grid"]:
        return state
    group = _group(sweep)
    is_named = group[0][0] == "tag"  # the values of params are not known before there are runs
    return fitting(state | grouped(group, [[name] for name in names] if is_named else []))


def _group(sweep: Mapping[str, Any]) -> Group:
    """What tells a sweep's arms apart: the tag that names them, but if their colours be the same."""
    keys = [key for key in sweep["grid"] if key != "seed"]
    jobs = [(job["arm"], [job["differs"].get(key, "") for key in keys]) for job in sweep["jobs"]]
    arm: Group = [("tag", f"sweep.{sweep['id']}")]
    params: Group = [("param", key.replace("/", ".")) for key in keys]
    named = {colour(arm, [name]) for name, _ in jobs}
    told = {colour(params, values) for _, values in jobs}
    return params if len(told) > len(named) else arm


def sweep_of(run: "Run") -> str:
    """The id of the sweep that a run belongs to, or is; empty if it is alone."""
    tags = run.data.tags
    marks = [key.removeprefix("sweep.") for key in tags if key.startswith("sweep.")]
    return str(tags.get("sweep.id") or (marks[-1] if marks else ""))


def latest_runs(client: "MlflowClient") -> "list[Run]":
    """The latest runs of the experiment that has the latest one, the latest first."""
    experiments = [str(found.experiment_id) for found in client.search_experiments()]
    order = ["attributes.start_time DESC"]
    latest = client.search_runs(experiments, max_results=1, order_by=order)
    home = [str(run.info.experiment_id) for run in latest]
    return list(client.search_runs(home, max_results=LOOKED_AT, order_by=order)) if home else []


def columns(runs: "Sequence[Run]") -> list[str]:
    """The params that differ, those that all runs have first; then the figures that any run has."""
    params = comparable([run.data.params for run in runs])
    values = {
        key: {has.get(key) for has in params} for key in sorted({k for p in params for k in p})
    }
    differ = [key for key, found in values.items() if len(found) > 1]
    differ.sort(key=lambda key: None in values[key])  # stable: else by name
    figures = [key for key in FIGURES if any(key in run.data.metrics for run in runs)]
    shown = [column("params", key) for key in differ[:PARAMS]]
    return loss_first([*shown, *(column("metrics", key) for key in figures)])


def loss_first(selected: Sequence[str]) -> list[str]:
    """Columns with the held-out loss before all others, where no side panel hides it."""
    return sorted(selected, key=lambda each: each != BEST[0])


def all_runs_state(runs: "Sequence[Run]") -> dict[str, Any]:
    """The view of runs that are no sweep: the best held-out loss first, else the latest."""
    selected = columns(runs)
    return view_state(selected, BEST if BEST[0] in selected else ("attributes.start_time", False))
