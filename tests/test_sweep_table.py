"""The live table of a sweep on terminals of several widths."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from rich.console import Console

from microgpt.run.record import FAILED, FINISHED, RUNNING
from microgpt.run.sweep import SweepFolder
from microgpt.sweep.conduct import begin
from microgpt.sweep.table import _table, tell_begin
from microgpt.sweep.watch import Standing, Watch
from tests.command import environment
from tests.running import REPOSITORY


@pytest.fixture
def watch(tmp_path: Path) -> Callable[[int], Watch]:
    """A sweep of so many jobs with long names, in all stages."""

    def make(jobs: int) -> Watch:
        sweep = SweepFolder(tmp_path / "sweeps/abc")
        sweep.path.mkdir(parents=True)
        names = [
            f"n_embd=16 n_head={i} optimizer=adamw weight_decay=0.1 seed={i}" for i in range(jobs)
        ]
        begin(
            sweep,
            **dict.fromkeys(("name", "signature", "source"), "a"),
            grid={},
            config={"data": {}, "paths": {}, "tracking": {}, "trainer": {"num_steps": 1000}},
            jobs=[{"run": n, "name": n, "arm": n, "differs": {}, "tags": {}} for n in names],
        )
        made = Watch(sweep)
        ends = [FINISHED, RUNNING, FAILED, "waiting", "skipped"]
        for i, name in enumerate(made.now):
            made.now[name] = Standing(ends[i % len(ends)], 500, 2.345, 2.5)
        return made

    return make


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_figures_are_whole_at_any_width(watch: Callable[[int], Watch], width: int) -> None:
    made = watch(60)
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(_table(made, [*made.now][:3:2]))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if "n_embd=16" in line]
    assert len(rows) == 14  # running ones, and those that ended
    assert all(line.split()[-5:] == ["500", "/", "1000", "2.3450", "2.5000"] for line in rows)
    text = " ".join(captured.get().split())
    assert "12 finished, 12 running, 12 failed, 12 skipped, 12 waiting" in text


def test_one_job_is_one_job(
    watch: Callable[[int], Watch], capsys: pytest.CaptureFixture[str]
) -> None:
    tell_begin(watch(1), None, {})
    assert capsys.readouterr().out == "sweep  abc  1 job: 1 new\n"


LIVE = """
import pathlib, sys, time
from threading import Event, Thread
from microgpt.run.sweep import SweepFolder
from microgpt.sweep.table import _live
from microgpt.sweep.watch import Watch

over = Event()
print("before", flush=True)
thread = Thread(target=_live, args=(Watch(SweepFolder(pathlib.Path(sys.argv[1]))), over))
thread.start()
sys.stdin.readline()
over.set()
thread.join()
"""
ERASED = r"\r\x1b\[2K((?:\x1b\[1A\x1b\[2K)+)([^\x07]*?waiting)"


def test_a_terminal_that_becomes_narrower_keeps_nothing_of_the_old_picture(
    watch: Callable[[int], Watch],
) -> None:
    """Three lines of 37, 34 and 27 columns are five rows of a terminal of 30; nothing is cut there."""
    child = pexpect.spawn(
        sys.executable,
        ["-c", LIVE, str(watch(60).sweep.path)],
        dimensions=(40, 80),
        encoding="utf-8",
        env=environment(PYTHONPATH=str(REPOSITORY), TERM="xterm"),
    )
    try:
        child.expect(ERASED)
        assert child.match[1].count("[1A") == 3 - 1
        child.setwinsize(40, 30)
        erased = 2
        while erased == 2:
            child.expect(ERASED)
            erased = child.match[1].count("[1A")
        assert erased == 5 - 1
        lines = re.sub(r"\x1b\[[\d;?]*\w", "", child.match[2]).splitlines()
        assert max(map(len, lines)) <= 30
        child.expect(ERASED)
        assert child.match[1].count("[1A") == len(lines)  # which the headings follow
    finally:
        child.sendline()
        child.expect(pexpect.EOF)
