"""`microgpt compare SWEEP SWEEP`: what differs between them, and their arms side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from microgpt.ablation.records.store import spec_of
from microgpt.ablation.statistics.summary import Interval, Summary
from microgpt.console import print_table
from microgpt.protocol.stopping import FIXED, INTERVALS, SEQUENTIAL, stopping_of
from microgpt.terminal import span
from microgpt.tracking import comparable
from microgpt.tracking.find import LOSS, members

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


LONG = 80  # characters of a value, of which a table has the first; `--json` has all


@dataclass(frozen=True)
class Stored:
    """A sweep in a store: what all its runs share, and the losses of its arms by seed."""

    id: str
    name: str
    stopping: str
    shared: Mapping[str, str]
    losses: Mapping[str, Mapping[str, float]]


def compare_sweeps(client: "MlflowClient", parents: "Sequence[Run]", as_json: bool) -> None:
    """Prints a comparison of two sweeps, as tables or JSON."""
    one, two = (_stored(client, parent) for parent in parents)
    first, second = comparable([one.shared, two.shared])
    pairs = {key: [first.get(key), second.get(key)] for key in sorted({*first, *second})}
    if "protocol" not in first or "protocol" not in second:  # one says that already
        pairs = {key: pairs[key] for key in pairs if not key.startswith(("protocol.", "frozen"))}
    differs = {key: values for key, values in pairs.items() if values[0] != values[1]}
    # The seeds in common are as many as the figures of either made them.
    is_sequence = SEQUENTIAL in (one.stopping, two.stopping)
    arms = _arms(one, two, INTERVALS[SEQUENTIAL if is_sequence else FIXED])
    if as_json:
        names = [{"id": each.id, "name": each.name} for each in (one, two)]
        print(json.dumps({"sweeps": names, "differs": differs, "arms": arms}, indent=1))
        return
    table = Table("differs" if differs else "differs: nothing", one.name, two.name, box=None)
    for key, values in differs.items():
        table.add_row(*(Text(shorten(value, LONG) if value else "·") for value in (key, *values)))
    print_table(table)
    if any(not value for values in differs.values() for value in values):
        print("· is no one value: it is varied there, or not known")
    level = "95 % at any time" if is_sequence else "95 %"
    table = Table("arm", one.id, two.id, "second less first", level, box=None)
    for arm in arms:
        interval = "" if arm["low"] is None else f"[{arm['low']:+.4f}, {arm['high']:+.4f}]"
        cells = [
            *(_figure(mean, ".4f") for mean in arm["means"]),
            _figure(arm["difference"], "+.4f"),
        ]
        table.add_row(Text(arm["arm"]), *cells, Text(interval))
    print_table(table)
    if all(arm["difference"] is None for arm in arms):
        print("no arm is in both sweeps at one seed: there is no difference to show")


def _stored(client: "MlflowClient", parent: "Run") -> Stored:
    """Raises BadValue, BadRecord."""
    sweep = parent.data.tags["sweep.id"]
    said, protocol = spec_of(client, parent)
    runs = [
        run
        for run in members(client, str(parent.info.experiment_id), sweep)
        if run.info.status == "FINISHED"
    ]
    params = [run.data.params for run in runs]
    first = params[0] if params else {}
    losses: dict[str, dict[str, float]] = {}
    for run in runs:
        arm = losses.setdefault(run.data.tags[f"sweep.{sweep}"], {})
        if LOSS in run.data.metrics:
            seed = run.data.tags.get("seed") or run.data.params.get("seed", "")
            arm[seed] = run.data.metrics[LOSS]
    return Stored(
        sweep,
        str(parent.info.run_name),
        stopping_of(said.get("ablation")),
        {key: first[key] for key in first if all(each.get(key) == first[key] for each in params)}
        | _claimed(said, protocol, parent.data.tags),
        losses,
    )


def _claimed(
    said: Mapping[str, Any], protocol: Mapping[str, Any] | None, tags: Mapping[str, str]
) -> dict[str, str]:
    """What a sweep trains and claims, and its verdict, as texts by key."""
    facts = {
        "arms": "; ".join(dict.fromkeys(job["arm"] for job in said["jobs"])),
        "seeds": span([*dict.fromkeys(str(job.get("seed")) for job in said["jobs"])]),
        **{key: value for key, value in tags.items() if key in ("verdict", "claim")},
    }
    if protocol is None:
        return facts
    content = {f"protocol.{key}": _text(value) for key, value in protocol["content"].items()}
    return {"protocol": protocol["digest"][:12], "frozen": protocol["time"]} | facts | content


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _arms(one: Stored, two: Stored, interval: Interval) -> list[dict[str, Any]]:
    """Each arm with a loss, the lowest first: its mean in both sweeps, and the difference paired by seed.

    The intervals of all differences hold together.
    """
    names = list(dict.fromkeys([*one.losses, *two.losses]))
    found = {name: (one.losses.get(name, {}), two.losses.get(name, {})) for name in names}
    pairs = {
        n: [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
        for n, (a, b) in found.items()
    }
    comparisons = sum(len(each) > 1 for each in pairs.values()) or 1
    rows = []
    for name, losses in found.items():
        if not any(losses):
            continue
        told = interval(pairs[name], comparisons) if pairs[name] else None
        means = [interval([*each.values()]).mean if each else None for each in losses]
        rows.append({"arm": name, "means": means, **_difference(told)})
    return sorted(rows, key=lambda row: min(mean for mean in row["means"] if mean is not None))


def _difference(of: Summary | None) -> dict[str, Any]:
    if of is None:
        return {"difference": None, "low": None, "high": None}
    return {"difference": of.mean, "low": of.low, "high": of.high}


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
