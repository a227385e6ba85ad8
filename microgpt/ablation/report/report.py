"""`microgpt report`: writes the report of a sweep from the store."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from microgpt.ablation.evidence.entries import digits
from microgpt.ablation.evidence.files import covered, numbers_sha256
from microgpt.ablation.evidence.history import earlier_in, merged, told_before
from microgpt.ablation.evidence.lock import LOCK, read_lock, text_of
from microgpt.ablation.records.store import client_of, read_sweep
from microgpt.ablation.records.sweep import Sweep
from microgpt.ablation.report import words
from microgpt.ablation.report.analysis import analyse, asked_by
from microgpt.ablation.report.figures import draw
from microgpt.ablation.report.index import check_index, locks_with, write_index
from microgpt.ablation.report.page import html_page, linked
from microgpt.ablation.report.place import ours, renewed
from microgpt.ablation.report.publish import publish
from microgpt.ablation.report.rates import tuning
from microgpt.ablation.report.readme import render_readme
from microgpt.ablation.report.render import PARTS, arms
from microgpt.ablation.report.repeats import marks, repeats, shares
from microgpt.ablation.report.robustness import elsewhere, tell_others
from microgpt.console import out
from microgpt.core.check import BadValue
from microgpt.run.reading import BadRecord
from microgpt.terminal import carried, complain
from microgpt.tracking.find import find_parent
from microgpt.trust import OURS_ALONE, Trust

if TYPE_CHECKING:
    from mlflow import MlflowClient

WIDE = 300  # columns, so that no figure is truncated; a terminal may wrap lines


def report(
    name: str, uri: str | None, outputs: Path, experiments: Path, trust: Trust = OURS_ALONE
) -> Path:
    """Reports the latest sweep of an experiment, or the sweep with this id; returns the report's folder.

    Raises BadValue, BadRecord and Untrusted before anything is written.
    """
    check_index(experiments)
    client, store = client_of(uri, outputs)
    sweep, lock = examine(client, name, store, trust, experiments)
    folder = experiments / folder_name(str(lock["experiment"]))
    lock["earlier"] = merged(lock, lock["earlier"], earlier_in(folder / LOCK))
    warn_of_another(folder / LOCK, lock)
    with renewed(folder) as beside:
        write_all(lock, beside)
    show(lock)
    out.print(f"written to {folder}: {', '.join(sorted(ours(folder)))}")
    publish(client, sweep.parent, lock, folder, store)
    for other in tell_others(experiments, lock):
        out.print(f"{other} says so, too: it asks the same", markup=False)
    write_index(experiments)
    return folder


def warn_of_another(path: Path, lock: Mapping[str, Any]) -> None:
    """Warns if the report replaces that of another sweep, such as a short trial, or of another protocol."""
    try:
        old = read_lock(path)
    except BadRecord:  # there is none, or it is not a valid lock
        return
    was, now = old["sweep"], lock["sweep"]
    jobs = was["signature"] != now["signature"]
    if jobs or digest_in(old) != digest_in(lock):
        other = "jobs" if jobs else "claims"
        said = f" and said {old['verdict']}" if old["verdict"] else ""
        text = f"{path} was of sweep {was['id']}{protocol_of(old)}{said}; "
        complain(f"{text}{now['id']}{protocol_of(lock)}, which has other {other}, takes its place")


def digest_in(lock: Mapping[str, Any]) -> str | None:
    """The digest of a lock's protocol; None without one."""
    return (lock.get("protocol") or {}).get("digest")


def protocol_of(lock: Mapping[str, Any]) -> str:
    """` under protocol 0123456789ab`; empty without one."""
    digest = digest_in(lock)
    return f" under protocol {digest[:12]}" if digest else ""


def examine(
    client: "MlflowClient",
    name: str,
    store: str,
    trust: Trust = OURS_ALONE,
    experiments: Path = Path("experiments"),
) -> tuple[Sweep, dict[str, Any]]:
    """Reads a sweep and computes its lock. Raises BadValue, BadRecord, Untrusted.

    experiments  the folder of the reports, for the verdicts of other experiments
    """
    sweep = read_sweep(client, find_parent(client, name, store), trust)
    asked, lock = asked_by(sweep), lock_of(client, sweep, store)
    return sweep, lock | {
        "earlier": merged(lock, told_before(client, sweep.experiment)),
        "robustness": elsewhere(asked.robustness, lock, experiments, client, store),
        **in_others(lock, experiments),
        "took": times(sweep),
        "words": own_words(sweep),
    }


def in_others(lock: Mapping[str, Any], experiments: Path) -> dict[str, Any]:
    """Which runs of a lock the other locks of a folder have too."""
    others = [*locks_with(marks(lock), experiments)]
    return {"repeats": repeats(lock, others), "shares": shares(lock, others)}


def lock_of(client: "MlflowClient", sweep: Sweep, store: str) -> dict[str, Any]:
    """Computes the lock of a sweep, but for what others say. Raises BadValue, Untrusted."""
    asked, found = asked_by(sweep), None
    if asked.tuning:
        with suppress(BadValue, BadRecord):  # the report then says that the tuning is missing
            found = read_sweep(client, find_parent(client, asked.tuning, store), sweep.trust)
    return analyse(sweep, tuning(sweep, asked, found))


def folder_name(name: str) -> str:
    """`name` as the name of a folder."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-") or "sweep"


def own_words(sweep: Sweep) -> list[str]:
    """The words that commands on a page need, too: where own configurations are."""
    return carried() or (["--config-dir", sweep.config_dir] if sweep.config_dir else [])


def write_all(lock: Mapping[str, Any], folder: Path) -> None:
    """Writes all files of a report."""
    draw(lock, folder)
    readme = linked(render_readme(lock), folder)
    (folder / "README.md").write_text(readme, encoding="utf-8")
    page = html_page(readme, str(lock["experiment"]), folder)
    (folder / "report.html").write_text(page, encoding="utf-8")
    lock = {**lock, "files": covered(folder), "numbers": numbers_sha256(folder)}
    (folder / LOCK).write_text(text_of(lock), encoding="utf-8")


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
            known = {"seconds": digits(median(seconds)), "rate": digits(median(rates))}
            rows.append({"arm": arm.name, **known})
    return rows


def show(lock: Mapping[str, Any]) -> None:
    """Prints the arms and the verdict, in the words of the page."""
    headings, *rows = arms(lock)
    grid = Table(box=None)
    for heading in headings:
        grid.add_column(heading, no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    Console(width=WIDE, highlight=False).print(grid)
    out.print(f"held-out loss: of the {PARTS[lock['figure']]} part")
    for run in lock["runs"]:
        if run["status"] != "finished":
            out.print(f"no result: {run['name']}: {run['reason']}", markup=False)
    for line in (words.standing(lock), words.verdict(lock), *words.numbers(lock)):
        out.print(line, markup=False)
    if words.compares(lock):
        out.print(
            "intervals of the table hold together; those beside the claim where it needs that"
        )
