"""`microgpt verify EXPERIMENT`: checks an experiment's lock and page, and trains some of its runs again.

It needs only the lock: no store, and for the package's own data no file.
"""

import gc
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import microgpt
from microgpt.ablation.evidence.files import changed
from microgpt.ablation.evidence.lock import (
    LOCK,
    content_of,
    digest,
    read_lock,
)
from microgpt.ablation.reproduce.contradictions import contradictions, edited_since, tuned_by
from microgpt.ablation.reproduce.draw import draw
from microgpt.ablation.reproduce.recount import miscounted
from microgpt.ablation.reproduce.replay import Difference
from microgpt.ablation.reproduce.retrain import Entry, built_again, run_again
from microgpt.ablation.reproduce.shared import Shared
from microgpt.ablation.reproduce.verify import CANNOT, EXACT, Gone, Verdict, tell
from microgpt.build import Parts
from microgpt.console import out
from microgpt.core.check import BadValue, integer
from microgpt.run.held_out import HeldOut
from microgpt.run.record import FINISHED
from microgpt.signals import STOPPING
from microgpt.terminal import complain
from microgpt.trust import OURS_ALONE, Trust

SHARE = 10  # by default, one of this many runs is trained again
PROCESSES = 2  # maximum number of parallel processes
_given: list[Any] = []  # to a process that trains runs again: see _all


def lock_of(name: str, reports: Path | None = None) -> Path | None:
    """The lock of an experiment: in the folder `name`, in experiments/, or in `reports`.

    There is experiments/ here and beside the package.
    """
    places = [Path(name), *(folder / name for folder in _experiments(reports))]
    return next((place / LOCK for place in places if (place / LOCK).is_file()), None)


def recorded(reports: Path | None = None) -> list[str]:
    """The names of the experiments that have a lock."""
    files = [file for folder in _experiments(reports) for file in folder.glob(f"*/{LOCK}")]
    return sorted({file.parent.name for file in files})


def _experiments(reports: Path | None) -> list[Path]:
    published = [Path("experiments"), Path(microgpt.__file__).parent.parent / "experiments"]
    return [*published, *([reports] if reports else [])]


def verify_lock(
    path: Path,
    sample: int | None,
    seed: int | None,
    data: Path | None,
    trust: Trust = OURS_ALONE,
    shared: Shared | None = None,
) -> int:
    """Verifies an experiment and prints the verdict; returns an exit code.

    `sample` runs are drawn by `seed`, other ones each time if it is None; a `sample` of None is a tenth, at
    least one. Runs that are in `shared` are not trained again. Raises BadValue, BadRecord and Untrusted.
    """
    if sample is not None:
        integer("sample", sample, 1)
    if difference := _edited(path, content_of(path)):
        return tell(Verdict(difference, []))
    lock = read_lock(path)
    finished = [run for run in lock["runs"] if run["status"] == FINISHED]
    try:
        base = built_again(lock, finished[0], data, trust)
    except Gone as error:
        complain(f"cannot run again: {error}")
        return CANNOT
    if difference := contradicted(lock, path, base, trust):
        return tell(Verdict(difference, []))
    out.print(
        f"{path} is intact: its numbers follow from its runs, its files are those of the report"
    )
    count = -(-len(finished) // SHARE) if sample is None else sample
    chosen, which = draw(finished, count, seed)
    every = len(chosen) == len(finished)
    told = f"{len(chosen)} of {len(finished)} finished runs are trained again{which}"
    named = "" if every else f":\n  {', '.join(run['name'] for run in chosen)}"
    out.print(f"{told}{named}", markup=False)
    kept: dict[str, HeldOut] | None = {} if every else None
    left = [run for run in chosen if not (shared and _told(shared, lock, run, kept))]
    if shared and len(left) < len(chosen):
        out.print(f"{len(chosen) - len(left)} of them were, for other experiments")
    code = _all(left, kept, (lock, data, trust), shared)
    if code == EXACT and kept and len(kept) == len(finished):
        if found := miscounted(lock, base.documents, trust, kept):
            return tell(Verdict(found, []))
        out.print("the intervals over seeds and documents follow from the nats of all runs")
    return code


def _edited(path: Path, content: Mapping[str, Any]) -> Difference | None:
    """The Difference if the lock's digest is not that of its content, else None."""
    if content["digest"] == digest(content):
        return None
    says = f"its digest is {content['digest']}; that of its content {digest(content)}"
    return Difference(f"{path} was changed by hand", says)


def altered(lock: Entry, path: Path) -> Difference | None:
    """The file beside a lock that is not as the report wrote it; None if all are."""
    found = changed(path.parent, lock["files"], lock["numbers"])
    if found is None:
        return None
    name, problem = found
    return Difference(f"{path.parent / name} {problem}", "its sha256 is not that of the lock")


def contradicted(lock: Entry, path: Path, base: Parts, trust: Trust) -> Difference | None:
    """What is wrong with a lock and its files that can be found without training; else None."""
    if known := altered(lock, path):
        return known
    try:
        known = miscounted(lock, base.documents, trust) or next(contradictions(lock, base), None)
    except BadValue as error:
        return Difference("the lock contradicts itself", str(error))
    if known:
        return known
    for found_elsewhere in (edited_since(lock), tuned_by(lock, path)):
        if isinstance(found_elsewhere, Difference):
            return found_elsewhere
        if found_elsewhere:
            complain(found_elsewhere)
    return None


def _told(shared: Shared, lock: Entry, run: Entry, kept: dict[str, HeldOut] | None) -> bool:
    """Whether a run was trained again for another experiment, which is then printed."""
    found = shared.find(lock, run)
    if found:
        told = f"bit-exact: the run of {found.experiment}, parameters {found.parameters[:12]}"
        out.print(f"run {run['name']}\n{told}", markup=False)
        if kept is not None and found.held_out:
            kept[run["name"]] = found.held_out
    return found is not None


def _all(
    runs: Sequence[Entry],
    kept: dict[str, HeldOut] | None,
    given: tuple[Entry, Path | None, Trust],
    shared: Shared | None,
) -> int:
    """Trains all runs again and prints the verdicts; stops at the first that differs.

    kept    takes the nats of the test documents, by the runs' names, if all of them are wanted
    given   the lock, the file of the data if it is not the lock's, and what is trusted
    shared  takes the runs
    """
    if not runs:
        return EXACT
    count = min(PROCESSES, len(runs), os.cpu_count() or 1)
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin, given)
    bar = Progress(
        TextColumn("runs"),
        MofNCompleteColumn(),
        BarColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("", total=len(runs))
            waiting = {pool.submit(_run_again, run): run for run in runs}
            told: set[str] = set()  # changes already printed, since most runs share them
            for future in as_completed(waiting):
                run = waiting.pop(future)
                out.print(f"run {run['name']}", markup=False)
                verdict = future.result()
                if verdict.difference:
                    return tell(verdict)
                tell(replace(verdict, changed=[c for c in verdict.changed if c not in told]))
                told.update(verdict.changed)
                if kept is not None and verdict.held_out:
                    kept[run["name"]] = verdict.held_out
                if shared is not None:
                    shared.add(given[0], run, verdict.held_out)
                bar.advance(task)
    except (Gone, BrokenProcessPool) as error:
        complain(f"cannot run again: {error}")
        return CANNOT
    finally:
        pool.shutdown(cancel_futures=True)
    return EXACT


def _begin(*given: Any) -> None:
    """Keeps what all runs of this process need."""
    for number in STOPPING:  # they end it without output, since the parent reports them
        signal.signal(number, signal.SIG_DFL)
    _given[:] = given
    gc.freeze()


def _run_again(run: Entry) -> Verdict:
    """Trains a run again, and lets go of what it leaves behind, which has cycles."""
    lock, data, trust = _given
    try:
        return run_again(lock, run, data, trust)
    finally:
        gc.collect()
