"""Where to look in MLflow's UI: the address of the runs table, set up for comparing runs.

The UI opens an experiment on a view for other purposes, without params and metrics. Its address can
name a *shared view state*, a tag of the experiment: an internal format of the pinned MLflow, made in
`_view_state` alone and guarded by tests/browser.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from microgpt.core.check import BadValue
from microgpt.tracking.store import open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "microgpt"  # of the view state
LOOKED_AT = 200  # the latest runs decide the columns
PARAMS = 8  # columns at most
FIGURES = ("val/loss", "val/bpc", "cost/seconds")
SECTIONS = ("val", "train", "Model metrics", "cost")  # of the charts; the third has lr, grad_norm
WIDTH = 110  # of a column, in pixels


def runs_address(store: str, outputs: Path, server: str) -> str:
    """The latest sweep's runs if the latest run is one of them, else all runs of its experiment.

    Raises BadValue if the store shows none.
    """
    try:
        client = open_store(store, outputs)
        runs = latest_runs(client)
        if runs:
            experiment = str(runs[0].info.experiment_id)
            view = sweep_of(runs[0])
            if not view:
                view = KEY
                set_view(client, experiment, view, _view_state(columns(runs)))
    except Exception as error:  # whatever a store may raise
        raise BadValue("uri", store, shorten(str(error), 160, placeholder=" ...")) from error
    if not runs:
        raise BadValue("uri", store, "no runs yet; `microgpt train` makes the first")
    return view_address(server, experiment, view)


def view_address(server: str, experiment: str, view: str) -> str:
    """Where MLflow's UI shows an experiment as the view says."""
    page = f"{server}/#/experiments/{experiment}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={view}"


def set_view(client: "MlflowClient", experiment: str, key: str, state: Mapping[str, Any]) -> None:
    """Keep a view of MLflow's UI under `key`, as the UI itself does when a view is shared."""
    client.set_experiment_tag(experiment, f"mlflow.sharedViewState.{key}", json.dumps(state))


def set_sweep_view(client: "MlflowClient", experiment: str, sweep: Mapping[str, Any]) -> None:
    """Keep the view of a sweep under its id: its runs alone, by arm, averaged over seeds."""
    params = [key.replace("/", ".") for key in sweep["grid"]]
    selected = [f"params.`{key}`" for key in params[:PARAMS]]
    selected += [f"metrics.`{key}`" for key in FIGURES]
    arms = [{"mode": "param", "groupByData": key} for key in params if key != "seed"]
    state = _view_state(selected) | {"searchFilter": f"tags.`sweep.{sweep['id']}` != ''"}
    if arms and "seed" in params:
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": arms}
    set_view(client, experiment, sweep["id"], state)


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
    params = [run.data.params for run in runs]
    values = {
        key: {has.get(key) for has in params} for key in sorted({k for p in params for k in p})
    }
    differ = [key for key, found in values.items() if len(found) > 1]
    differ.sort(key=lambda key: None in values[key])  # stable: else by name
    figures = [key for key in FIGURES if any(key in run.data.metrics for run in runs)]
    return [f"params.`{key}`" for key in differ[:PARAMS]] + [f"metrics.`{key}`" for key in figures]


def _view_state(selected: Sequence[str]) -> dict[str, Any]:
    """MLflow's internal description of a runs table: the best held-out loss first, else the latest."""
    best = "metrics.`val/loss`"
    by = (best, True) if best in selected else ("attributes.start_time", False)
    fixed = {"attributes.`Run Name`": 260, "runDateAndNestInfo": 150}
    order = [*fixed, *selected, "duration"]
    return {
        "orderByKey": by[0],
        "orderByAsc": by[1],
        "selectedColumns": list(selected),
        "columnOrder": order,
        "columnWidths": dict.fromkeys(order, WIDTH) | fixed,
        "isAccordionReordered": True,  # keeps the order of the sections, which the UI fills
        "compareRunSections": [_section(name) for name in SECTIONS],
        "compareRunCharts": [],
    }


def _section(name: str) -> dict[str, Any]:
    shown = {"display": True, "isReordered": False, "deleted": False, "isGenerated": True}
    return {"uuid": f"microgpt-{name}", "name": name, **shown}
