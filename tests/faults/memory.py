"""Whether memory grows: where a command is called again and again, and in processes seen from outside."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import psutil

from microgpt import cli
from tests.faults.sweep_memory import MORE

WARM = 0.2  # of the looks, which do not count
PAUSE = 0.5  # seconds between two looks at a command
Look = dict[int, float]  # process -> its memory in MB, without files that others may map, too


def look(top: psutil.Process) -> Look:
    """A process and all that it has started."""
    found = {}
    with suppress(psutil.NoSuchProcess):
        for process in [top, *top.children(recursive=True)]:
            with suppress(psutil.Error):
                memory = process.memory_info()
                found[process.pid] = (memory.rss - memory.shared) / 1e6
    return found


def looks_at(process: "subprocess.Popen[str]", code: int) -> tuple[list[Look], str]:
    """Looks at a command until it ends, with this exit code; and what it printed."""
    found, top = [], psutil.Process(process.pid)
    while True:
        with suppress(subprocess.TimeoutExpired):
            out, err = process.communicate(timeout=PAUSE)
            assert process.returncode == code, (out, err)
            return found, out
        found.append(look(top))


def repeated(times: int, call: Callable[[int], object]) -> list[Look]:
    """A look after each of so many calls, in a process for them alone."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_repeat, times, call).result()


def _repeat(times: int, call: Callable[[int], object]) -> list[Look]:
    found = []
    for i in range(times):
        call(i)
        gc.collect()  # objects in cycles would be freed later, which is no growth
        found.append(look(psutil.Process()))
    return found


def command(outputs: Path, words: Sequence[str], number: int) -> None:
    """`microgpt words` in this process; `{}` in a word stands for the number."""
    os.environ["MICROGPT_OUTPUTS"] = str(outputs)
    sys.argv = ["microgpt", *(word.format(number) for word in words)]
    with redirect_stdout(StringIO()):
        code: int | str | None = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        assert not code, (words, code)


def grown(looks: Sequence[Look]) -> str:
    """Checks that there is no growth: of the whole, and of each process that lived long enough.

    Says what the whole was.
    """
    warm = looks[int(len(looks) * WARM) :]
    third = len(warm) // 3
    first, last = warm[:third], warm[-third:]
    for pid in set(first[0]) & set(last[-1]):
        _flat(*(median(each.get(pid, 0.0) for each in part) for part in (first, last)))
    before, after = (median(sum(each.values()) for each in part) for part in (first, last))
    _flat(before, after)
    return f"{before:.1f} MB, later {after:.1f} MB"


def _flat(before: float, after: float) -> None:
    assert after <= MORE * before, f"{before:.1f} MB, then {after:.1f} MB"
