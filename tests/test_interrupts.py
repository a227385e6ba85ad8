"""Ctrl-C and SIGTERM while a command starts: one line, the exit code of the signal, and nothing written."""

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from microgpt.guard import guarded
from microgpt.run.folder import all_runs
from microgpt.run.record import STOPPED
from microgpt.signals import Interrupted, handled, interrupt
from tests.command import NAMES, OFFLINE, TINY, environment, files

WORDS = ["train", *TINY, *OFFLINE, "data.path=names.txt", "engine=vector"]
WORDS += ["trainer.num_steps=1000000"]
# Sends itself a signal at the Nth audited event of the interpreter: an import, a file that is opened, ...
PROGRAM = """
import itertools, os, sys
from microgpt.__main__ import main
number, at = map(int, sys.argv[1:3])
del sys.argv[1:3]
count = itertools.count()
sys.addaudithook(lambda *_: next(count) == at and os.kill(os.getpid(), number))
main()
"""
EVENTS = 34_000  # from the first import to the first step, by about


def interrupted_at(moment: int, number: signal.Signals, place: Path) -> tuple[int, str, str]:
    """A run that gets a signal at this event; its exit code and what it says."""
    (place / "names.txt").write_text("\n".join(NAMES))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(int(number)), str(moment), *WORDS],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def check(moment: int, number: signal.Signals, place: Path) -> None:
    """Checks that a run is stopped at this moment, cleanly whether it had begun or not."""
    code, out, err = interrupted_at(moment, number, place)
    if "stopped after" in out:
        assert (code, err) == (128 + number, ""), out
        assert [run.status for run in all_runs(place / "outputs")] == [STOPPED]
    else:
        assert (code, out, err) == (128 + number, "", "microgpt: interrupted\n")
        assert files(place) == ["names.txt"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [50, 9000])
def test_an_interrupt_at_the_start(moment: int, number: signal.Signals, tmp_path: Path) -> None:
    check(moment, number, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moments",
    [pytest.param(4, marks=pytest.mark.slow), pytest.param(14, marks=pytest.mark.soak)],
)
def test_interrupts_at_any_moment(moments: int, number: signal.Signals, tmp_path: Path) -> None:
    for i, moment in enumerate(Random(number).sample(range(EVENTS), moments)):
        place = tmp_path / str(i)
        place.mkdir()
        check(moment, number, place)


def test_an_interrupt_that_another_library_turns_into_an_error() -> None:
    """As OmegaConf does, whose cleaning up fails after one."""

    def command() -> int:
        nothing = None
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            nothing.clean_up()  # type: ignore[attr-defined]
        return 0

    with handled(interrupt), pytest.raises(Interrupted) as caught:
        guarded(command)
    assert caught.value.number == signal.SIGTERM
