"""`microgpt report`: writes the report of a sweep from the store."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from microgpt.ablation.lock import LOCK, read_lock, text_of
from microgpt.ablation.report.analysis import analyse, asked_by
from microgpt.ablation.report.figures import draw
from microgpt.ablation.report.index import write_index
from microgpt.ablation.report.page import html_page
from microgpt.ablation.report.place import OURS, renewed
from microgpt.ablation.report.rates import tuning
from microgpt.ablation.report.readme import render_readme
from microgpt.ablation.report.render import (
    figure,
    interval,
    render_table,
    runs_of,
    signed,
    verdict_of,
)
from microgpt.ablation.store import Sweep, client_of, read_sweep
from microgpt.console import out
from microgpt.core.check import BadValue
from microgpt.run.reading import BadRecord
from microgpt.terminal import complain
from microgpt.tracking import cut, told
from microgpt.tracking.view import find_parent
from microgpt.trust import OURS_ALONE, Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient

WIDE = 300  # columns, so that no figure is truncated; a terminal may wrap lines
FOLDER = "report"  # the report's path in the parent run's artifacts


def report(
    name: str, uri: str | None, outputs: Path, experiments: Path, trust: Trust = OURS_ALONE
) -> Path:
    """Reports the latest sweep of an experiment, or the sweep with this id; returns the report's folder.

    Raises BadValue, BadRecord and Untrusted before anything is written.
    """
    client, store = client_of(uri, outputs)
    sweep, lock = examine(client, name, store, trust)
    folder = experiments / folder_name(str(lock["experiment"]))
    warn_of_another(folder / LOCK, lock)
    with renewed(folder) as beside:
        readme = write_all(sweep, lock, beside)
    write_index(experiments)
    show(lock)
    out.print(f"written to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
    _publish(client, sweep, lock, readme, folder, store)
    return folder


def warn_of_another(path: Path, lock: Mapping[str, Any]) -> None:
    """Warns if the report replaces that of another sweep, such as a short trial."""
    try:
        old = read_lock(path)["sweep"]
    except BadRecord:  # there is none, or it is not a valid lock
        return
    if old["signature"] != lock["sweep"]["signature"]:
        new = lock["sweep"]["id"]
        complain(f"{path} was of sweep {old['id']}; {new}, which has other jobs, takes its place")


def examine(
    client: "MlflowClient", name: str, store: str, trust: Trust = OURS_ALONE
) -> tuple[Sweep, dict[str, Any]]:
    """Reads a sweep and computes its lock. Raises BadValue, BadRecord, Untrusted."""
    sweep = read_sweep(client, find_parent(client, name, store), trust)
    asked, found = asked_by(sweep), None
    if asked.tuning:
        with suppress(BadValue, BadRecord):  # the report then says that the tuning is missing
            found = read_sweep(client, find_parent(client, asked.tuning, store), trust)
    return sweep, analyse(sweep, tuning(sweep, asked, found))


def folder_name(name: str) -> str:
    """`name` as the name of a folder."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-") or "sweep"


def write_all(sweep: Sweep, lock: Mapping[str, Any], folder: Path) -> str:
    """Writes all files of a report; returns the page."""
    draw(sweep, lock, folder)
    readme = render_readme(lock, times(sweep))
    (folder / "README.md").write_text(readme, encoding="utf-8")
    page = html_page(readme, str(lock["experiment"]), folder)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / LOCK).write_text(text_of(lock), encoding="utf-8")
    return readme


def times(sweep: Sweep) -> list[dict[str, Any]]:
    """Clock times: medians over the runs of each arm."""
    rows = []
    for arm in sweep.arms:
        ends = [run.rows[-1] for run in arm.finished if run.rows]
        rates = [
            row["cost/tokens_per_sec"]
            for run in arm.finished
            for row in run.rows
            if "cost/tokens_per_sec" in row
        ]
        seconds = [row["cost/seconds"] for row in ends if "cost/seconds" in row]
        if seconds and rates:
            rows.append({"arm": arm.name, "seconds": median(seconds), "rate": median(rates)})
    return rows


def show(lock: Mapping[str, Any]) -> None:
    """Prints the arms and the verdict."""
    grid = Table(box=None, title_justify="left")
    for heading in ("arm", "runs", "held-out", "bits/char", "difference", "95 %", "verdict"):
        grid.add_column(heading, no_wrap=True)
    for row in lock["table"]:
        loss, bpc, difference = row["loss"] or {}, row["bpc"] or {}, row["difference"] or {}
        grid.add_row(
            escape(row["arm"]),
            runs_of(row),
            figure(loss.get("mean")),
            figure(bpc.get("mean")),
            signed(difference.get("mean")),
            escape(interval(difference, signed)),
            escape(verdict_of(row)),
        )
    Console(width=WIDE, highlight=False).print(grid)
    for run in lock["runs"]:
        if run["status"] != "finished":
            out.print(f"no result: {run['name']}: {run['reason']}", markup=False)
    if lock["verdict"]:
        out.print(f"[bold]{lock['verdict']}[/]: {escape(lock['because'])}")


def _publish(
    client: "MlflowClient",
    sweep: Sweep,
    lock: Mapping[str, Any],
    readme: str,
    folder: Path,
    store: str,
) -> None:
    """Uploads the report as artifacts of the parent run, with the table as its description."""
    ours = sorted({file for pattern in OURS for file in folder.glob(pattern)})
    question = readme.splitlines()[0].lstrip("# ")
    verdict = f"**Verdict: {lock['verdict']}.** {lock['because']}" if lock["verdict"] else ""
    note = "\n\n".join([f"**{question}**", verdict, render_table(lock), f"Artifacts: {FOLDER}/"])
    try:
        for file in ours:
            client.log_artifact(sweep.parent, str(file), FOLDER)
        client.set_tag(sweep.parent, "mlflow.note.content", cut(note))
    except Exception as error:  # each kind of store has its own exceptions; the report is written
        complain(f"the report is not on the sweep's run ({told(store, error)})")
