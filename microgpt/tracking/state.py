"""What MLflow's UI calls a shared view state: the columns, rows and charts that an address opens.

An internal format of the pinned MLflow, made here alone and guarded by tests/browser. It must fit
into a tag of an experiment.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

LOSS, BPC, SECONDS = "val/loss", "val/bpc", "cost/seconds"
FIGURES = (LOSS, BPC, SECONDS)
SECTIONS = ("val", "train", "Model metrics", "cost")  # of the charts; the third has lr, grad_norm
CURVES = {LOSS: "log", BPC: "log", "train/loss": "log", "grad_norm": "log", "lr": "linear"}
CHART_COLUMNS = 2
NAME, CREATED = "attributes.`Run Name`", "runDateAndNestInfo"
WIDTHS = {NAME: 240, CREATED: 140}  # of columns, in pixels
WIDEST = 370  # column of names
LONGEST = 5000  # characters of a tag of an experiment
COLOURS = 29  # of runs and groups
Group = Sequence[tuple[str, str]]  # what rows are grouped by: (`param` or `tag`, its key)


def view_state(
    selected: Sequence[str], order: tuple[str, bool], names: Sequence[str] = ()
) -> dict[str, Any]:
    """A runs table.

    selected  its columns, as `column` writes them
    order     the column that it is sorted by, and whether the lowest comes first
    names     of groups, which are not to be cut
    """
    columns = [NAME, *selected, CREATED, "duration"]
    return {
        "orderByKey": order[0],
        "orderByAsc": order[1],
        "selectedColumns": list(selected),
        "columnOrder": columns,
        "columnWidths": {column: _width(column) for column in columns} | {NAME: _for(names)},
        "isAccordionReordered": True,  # keeps the order of the sections
        "compareRunSections": [_section(name) for name in SECTIONS],
        "compareRunCharts": [_curve(metric, scale) for metric, scale in CURVES.items()],
    }


def column(kind: str, key: str) -> str:
    """`("params", "model.n_head")` as the UI names the column."""
    return f"{kind}.`{key}`"


def grouped(group: Group, arms: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Rows that agree in all of `group` stand under one, which has their mean and is closed.

    arms  the values that the groups have
    """
    keys = [{"mode": mode, "groupByData": key} for mode, key in group]
    by = {"aggregateFunction": "average", "groupByKeys": keys}
    closed = {_group_id(group, values): False for values in arms}
    shown = {"groupBy": by, "runsHiddenMode": "FIRST_20_RUNS"}  # groups in charts, else ten
    return {**shown, "groupsExpanded": closed}


def fitting(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state that fits into a tag: of very many groups, all are open."""
    whole = len(json.dumps(state)) <= LONGEST
    return {key: value for key, value in state.items() if whole or key != "groupsExpanded"}


def colour(group: Group, values: Sequence[str]) -> int:
    """Which of its colours the UI gives the group that has these values: a checksum of them."""
    low = high = 0
    for letter in _group_id(group, values):
        low = (low + ord(letter)) % 255
        high = (high + low) % 255
    return (low | high << 8) % COLOURS


def _group_id(group: Group, values: Sequence[str]) -> str:
    return ",".join(f"{mode}.{key}.{value}" for (mode, key), value in zip(group, values))


def by_arm(arms: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A chart of the last held-out loss by what tells arms apart, params and their values.

    Against one number, or several side by side; a group has no mean of words: then against what a
    run took. A bar would begin at 0, where no loss differs in sight.
    """
    named = not all(map(numeric, arms.values()))
    if len(arms) > 1 and not named:
        axes = {"selectedParams": list(arms), "selectedMetrics": [LOSS], "showAllRuns": False}
        return _chart("arms", "PARALLEL", "val") | axes
    across = (
        {"key": SECONDS, "type": "METRIC"} if named else {"key": next(iter(arms)), "type": "PARAM"}
    )
    axes = {"xaxis": across, "yaxis": {"key": LOSS, "type": "METRIC"}}
    return _chart("arms", "SCATTER", "val") | axes


def numeric(values: Sequence[str]) -> bool:
    """Whether values are numbers, which have an order of their own."""
    try:
        return all(float(value) <= float("inf") for value in values)
    except ValueError:
        return False


def _width(column: str) -> int:
    """Of a column, in pixels: its heading and the sign for the order, but few digits of a number."""
    heading = column.partition("`")[2].rstrip("`") or column
    return WIDTHS.get(column, max(90, 50 + 7 * len(heading)))


def _for(names: Sequence[str]) -> int:
    """The width of the names of groups, beside which the held-out loss is still in sight."""
    longest = max(map(len, names), default=0)
    return min(WIDEST, max(WIDTHS[NAME], 130 + 7 * longest))


def _curve(metric: str, scale: str) -> dict[str, Any]:
    """A metric over the steps. On a linear axis the band of a group would reach down to 0."""
    section, _, name = metric.rpartition("/")
    return _chart(metric, "LINE", section or SECTIONS[2]) | {
        "isGenerated": True,  # as the UI's own, whose place it takes
        "displayName": name,
        "metricKey": metric,
        "scaleType": scale,
        "xAxisKey": "step",
        "range": {},
        "displayPoints": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _chart(name: str, kind: str, section: str) -> dict[str, Any]:
    place = {"uuid": f"microgpt-{name}", "metricSectionId": f"microgpt-{section}"}
    return {"type": kind, "deleted": False, "runsCountToCompare": 100, **place}


def _section(name: str) -> dict[str, Any]:
    shown = {"display": name != "cost", "isReordered": False, "deleted": False, "isGenerated": True}
    return {"uuid": f"microgpt-{name}", "name": name, "columns": CHART_COLUMNS, **shown}
