"""What a sweep shows: a live table on a terminal, a line for each end elsewhere."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event as Flag
from threading import Thread
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from microgpt.console import out, print_table
from microgpt.protocol.stopping import interval_of
from microgpt.run.record import FAILED, FINISHED, KILLED, REFUSED, RUNNING
from microgpt.sweep.arms import Arm, arms_of, table_of
from microgpt.sweep.redrawn import Redrawn
from microgpt.sweep.watch import OVER, SKIPPED, WAITING, Watch
from microgpt.terminal import carried, complain, counted

PAUSE = 0.5  # seconds between two looks
ROWS = 12  # running jobs shown at most
ENDS = 5  # jobs that ended, shown below them


def tell_begin(watch: Watch, look: str | None, elsewhere: Mapping[str, int]) -> None:
    """What there is to do, what there is not, what others do too, and where to look meanwhile."""
    states = [before.status for name, before in watch.before.items() if name not in watch.skipped]
    new, failed, refused = states.count(WAITING), states.count(FAILED), len(watch.refused())
    told = [(new, "new"), (len(watch.skipped) - refused, "finished before, skipped")]
    told += [(refused, "refused before, skipped")]
    told += [(len(states) - new - failed, "begun before, going on")]
    told += [(failed, "failed before, done again")]
    parts = ", ".join(f"{number} {what}" for number, what in told if number)
    out.print(
        f"sweep  {watch.sweep.path.name}  {counted(len(watch.jobs), 'job')}: {parts}", markup=False
    )
    for place, number in elsewhere.items():
        out.print(f"       {number} under way in {place}, trained here too", markup=False)
    tell_look(look)


def tell_protocol(
    before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, known: int
) -> None:
    """Warns of a protocol that is not the one that the sweep was started with before.

    known  how many of its runs had finished
    """
    if before and now and before["digest"] != now["digest"]:
        said = [key for key in now["content"] if now["content"][key] != before["content"].get(key)]
        text = f"protocol {now['digest'][:12]}: other than the {before['digest'][:12]} of "
        text += f"{before['time']} in {', '.join(said)}; {known} runs had finished before it"
        complain(text + (": its verdict is exploratory" if known else ""))


def tell_look(look: str | None) -> None:
    """Where to look at the sweep: an address, or a command that starts a server and prints one."""
    if look:
        out.print(f"look   {look}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching(watch: Watch, progress: bool) -> Iterator[None]:
    """Show how the sweep is doing, for the time of the block."""
    over = Flag()
    show = _live if progress and out.is_terminal else _lines if progress else _silent
    thread = Thread(target=show, args=(watch, over), name="table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _silent(watch: Watch, over: Flag) -> None:
    """Nothing to show."""


def _lines(watch: Watch, over: Flag) -> None:
    last = False
    while not last:
        last = over.wait(PAUSE)
        ended = watch.look()
        before = watch.count(*OVER) - len(ended)
        for done, name in enumerate(ended, before + 1):
            count = f"{done:>{len(str(len(watch.jobs)))}} / {len(watch.jobs)}"
            out.print(f"{count}  {_told(watch, name)}", markup=False)


def _live(watch: Watch, over: Flag) -> None:
    ended: list[str] = []
    with Redrawn(_table(watch, ended), console=out, refresh_per_second=4, transient=True) as live:
        last = False
        while not last:
            last = over.wait(PAUSE)
            for name in watch.look():
                ended.append(name)
                if watch.now[name].status == FAILED:
                    live.console.print(_told(watch, name), markup=False)
            live.update(_table(watch, ended))


def _table(watch: Watch, ended: list[str]) -> Group:
    """How all is going; the jobs that run; those that ended last."""
    jobs = len(watch.jobs)
    done = watch.count(*OVER)
    left = watch.seconds_left()
    words = [f"{watch.count(FINISHED)} finished", f"{watch.count(RUNNING)} running"]
    words += [f"{watch.count(FAILED)} failed"] * (watch.count(FAILED) > 0)
    words += [f"{watch.count(REFUSED)} refused"] * (watch.count(REFUSED) > 0)
    words += [f"{watch.count(SKIPPED)} skipped"] * (watch.count(SKIPPED) > 0)
    words += [f"{jobs - done - watch.count(RUNNING)} waiting"]
    if left is not None:
        words.append(f"{timedelta(seconds=round(left))} left")
    head = Table.grid(padding=(0, 1))
    head.add_row(ProgressBar(total=jobs, completed=done, width=30), f"{done} / {jobs}")
    rows = Table(box=None)
    rows.add_column("job")  # the one column that is cut on a narrow terminal
    for heading in ("step", "loss", "held-out"):
        rows.add_column(heading, no_wrap=True, justify="right")
    running = [name for name, now in watch.now.items() if now.status == RUNNING]
    for name in running[:ROWS]:
        rows.add_row(*_row(watch, name))
    for name in ended[-ENDS:]:
        rows.add_row(*_row(watch, name), style="red" if watch.now[name].status == FAILED else "dim")
    told = Text(", ".join(words), no_wrap=False, overflow="fold")  # the console would cut it
    return Group(head, told, rows)


def _row(watch: Watch, name: str) -> list[Text | str]:
    now = watch.now[name]
    figures = [f"{value:.4f}" if value is not None else "" for value in (now.loss, now.held_out)]
    job = Text(watch.jobs[name]["name"], no_wrap=True, overflow="ellipsis")
    return [job, f"{now.step} / {watch.steps}", *figures]


def _told(watch: Watch, name: str) -> str:
    """A job that has ended, in a line."""
    now = watch.now[name]
    held_out = f"  held-out {now.held_out:.4f}" if now.held_out is not None else ""
    unfinished = now.status in (FAILED, REFUSED)
    end = f"{now.status}: {now.reason}" if unfinished else f"finished{held_out}"
    return f"{watch.jobs[name]['name']}  {end}"


def tell_end(
    watch: Watch, whole: bool, problem: str | None, look: str | None, store: list[str] | None
) -> None:
    """How the sweep ended: its arms, what failed, how to do just that again, where to look.

    store  the words with which a command uses the sweep's store; None if there is none
    """
    left = watch.unfinished()
    for name, reason in watch.refused().items():
        complain(f"{watch.jobs[name]['name']} refused: {reason}")
    out.print(_counts(watch), markup=False)
    arms = _tell_arms(watch)
    for name, reason in left.items():
        if whole or watch.now[name].status == FAILED:
            complain(f"{watch.jobs[name]['name']} failed: {reason}")
    again = shlex.join(["microgpt", *sys.argv[1:]])
    if not whole:
        out.print(f"stopped; go on with the same command: {again}", markup=False)
    elif left:
        out.print(f"do again what failed, and nothing else: {again}", markup=False)
    if arms and store is not None and not problem:
        report = ["microgpt", "report", watch.sweep.path.name, *store, *carried()]
        out.print(f"next   {shlex.join(report)}", markup=False)
    tell_look(look)
    if problem:
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync")


def _tell_arms(watch: Watch) -> list[Arm]:
    """Prints the arms, and the one with the lowest mean if there are several; returns them."""
    ablation = watch.sweep.info.get("ablation") or {}
    known = [*watch.jobs.values()], watch.losses(), ablation.get("baseline")
    arms = arms_of(*known, interval_of(ablation))
    if arms:
        print_table(table_of(arms))
    if len(arms) > 1 and arms[0].whole:
        out.print(f"lowest {arms[0].name}", markup=False)
    return arms


def _counts(watch: Watch) -> str:
    told = [
        (watch.count(FINISHED), "finished"),
        (watch.count(SKIPPED), "skipped, finished before"),
        (watch.count(FAILED, KILLED), "failed"),
        (watch.count(REFUSED), "refused"),
    ]
    rest = len(watch.jobs) - sum(number for number, _ in told)
    told.append((rest, "not finished"))
    words = ", ".join(f"{number} {what}" for number, what in told if number)
    return f"{counted(len(watch.jobs), 'job')}: {words}"
