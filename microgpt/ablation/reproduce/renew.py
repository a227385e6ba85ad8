"""`microgpt report --from-lock`: writes the page of a lock anew, without a store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microgpt.ablation.evidence.lock import LOCK, read_earlier
from microgpt.ablation.report.index import check_index, whole, write_index
from microgpt.ablation.report.place import renewed
from microgpt.ablation.report.report import folder_name, in_others, show, write_all
from microgpt.ablation.report.robustness import beside
from microgpt.ablation.reproduce.recount import recounted
from microgpt.ablation.reproduce.retrain import built_again
from microgpt.ablation.reproduce.verify import Gone
from microgpt.ablation.reproduce.verify_lock import altered
from microgpt.app import config_path
from microgpt.complaints import UNCOMPOSED
from microgpt.console import out
from microgpt.run.reading import BadRecord
from microgpt.run.record import FINISHED
from microgpt.sweep.planned import section_of
from microgpt.terminal import carried, first_line
from microgpt.trust import OURS_ALONE, Trust


def renew(
    name: str, experiments: Path, data: Path | None = None, trust: Trust = OURS_ALONE
) -> Path:
    """Writes the report of an experiment anew from its lock; returns its folder.

    What is computed from the runs in the lock is computed anew, and what is said of other experiments is
    taken from their locks. The limits are those of the experiment's file in conf/.

    data  the documents, if the lock's are not where they were

    Raises BadValue, BadRecord and Untrusted before anything is written.
    """
    check_index(experiments)
    folder = experiments / folder_name(name)
    path = folder / LOCK
    lock = read_earlier(path)
    if known := altered(lock, path):
        raise BadRecord(path, f"cannot be written anew: {known.verdict}")
    try:
        lock = {**lock, **_computed(lock, data, trust), **from_others(lock, experiments)}
    except (Gone, *UNCOMPOSED) as error:
        raise BadRecord(path, f"cannot be written anew: {first_line(error)}") from error
    lock["words"] = carried() or lock["words"]
    del lock["digest"]  # which is that of the old content
    with renewed(folder) as new:
        write_all(lock, new)
    show(lock)
    out.print(f"written to {folder}, from its lock")
    write_index(experiments)
    return folder


def _computed(lock: Mapping[str, Any], data: Path | None, trust: Trust) -> dict[str, Any]:
    """What its runs give, and its limits."""
    finished = next(run for run in lock["runs"] if run["status"] == FINISHED)
    documents = built_again(lock, finished, data, trust).documents
    return recounted(lock, documents, trust) | {"ablation": with_limits(lock)}


def from_others(lock: Mapping[str, Any], experiments: Path) -> dict[str, Any]:
    """What the locks of a folder say beside this one."""
    rows = [_beside(lock, experiments, row) for row in lock["robustness"]]
    return {"robustness": rows, **in_others(lock, experiments)}


def _beside(lock: Mapping[str, Any], experiments: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    name = row["experiment"]
    try:
        return beside(lock, whole(experiments / name / LOCK), name)
    except BadRecord:  # the store said it, or it is of the schema before
        return {"contradict": [], **row}


def with_limits(lock: Mapping[str, Any]) -> dict[str, Any] | None:
    """The lock's question, with the limits that its experiment has in conf/."""
    asked: dict[str, Any] | None = lock["ablation"]
    name = lock["experiment"]
    if asked is None or not (config_path() / f"experiment/{name}.yaml").is_file():
        return asked
    found = section_of([f"experiment={name}"], config_path()) or {}
    kept: dict[str, Any] = {key: value for key, value in asked.items() if key != "limits"}
    return kept | ({"limits": found["limits"]} if found.get("limits") else {})
