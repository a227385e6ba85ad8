"""Puts a report on the run of its sweep in the store: files, tags, metrics, description."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.evidence.history import verdict_tag, words
from microgpt.ablation.report.place import ours
from microgpt.ablation.report.render import render_table
from microgpt.terminal import complain
from microgpt.tracking import cut, told
from microgpt.tracking.sweep import NOTE, about, with_report

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "report"  # the report's path in the artifacts
UNFIT = re.compile(r"[^\w./ -]+")  # for the name of a metric


def publish(
    client: "MlflowClient", parent: str, lock: Mapping[str, Any], folder: Path, store: str
) -> None:
    """Adds the report to the sweep's run `parent`, whose description keeps what it says of the sweep."""
    from mlflow.entities import Metric, RunTag

    said = tags(lock)
    figures = differences(lock)
    try:
        run = client.get_run(parent)
        for file in sorted(folder / name for name in ours(folder)):
            client.log_artifact(parent, str(file), FOLDER)
        note = with_report(about(run.data.tags.get(NOTE, "")), report_of(lock))
        now = run.info.end_time or run.info.start_time
        client.log_batch(
            parent,
            [Metric(name, value, now, 0) for name, value in figures.items()],
            tags=[RunTag(key, cut(value)) for key, value in {**said, NOTE: note}.items()],
        )
    except Exception as error:  # each kind of store has its own exceptions; the report is written
        complain(f"the report is not on the sweep's run ({told(store, error)})")


def tags(lock: Mapping[str, Any]) -> dict[str, str]:
    """The verdict and what it is about, and the verdict under its protocol, which stays."""
    asked, verdict, protocol = lock["ablation"] or {}, lock["verdict"], lock["protocol"]
    if not verdict:
        return {}
    found = {"verdict": str(verdict), "claim": words(asked.get("claim"))}
    if protocol:
        found[verdict_tag(protocol["digest"])] = f"{verdict}: {lock['because']}"
    return found


def differences(lock: Mapping[str, Any]) -> dict[str, float]:
    """Each arm's paired difference from the baseline, as metrics: `difference/n_head 4`."""
    return {
        f"difference/{UNFIT.sub(' ', row['arm'])}": row["difference"]["mean"]
        for row in lock["table"]
        if row["difference"]
    }


def report_of(lock: Mapping[str, Any]) -> str:
    """The report in a sweep's description."""
    asked, protocol = lock["ablation"] or {}, lock["protocol"]
    parts = [f"**{asked['question']}**"] if "question" in asked else []
    parts += [f"**Verdict: {lock['verdict']}.** {lock['because']}"] if lock["verdict"] else []
    if protocol:
        parts += [f"Protocol `{protocol['digest'][:12]}` of {protocol['time']}"]
    return "\n\n".join([*parts, render_table(lock), f"Artifacts: {FOLDER}/"])
