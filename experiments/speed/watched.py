"""A command seen from outside: CPU and memory of all processes that it starts."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

MICROGPT = [sys.executable, "-c", "from microgpt.cli import main; main()"]
LOOK = 0.25  # seconds between two looks
KINDS = {
    "sender": "microgpt.tracking.sending",
    "worker": "microgpt.sweep.serve",
    "rival's worker": "joblib",
}


class Look(NamedTuple):
    """A process at one moment."""

    seconds: float  # since the command was given
    done: int  # runs
    kind: str
    pid: int
    memory: int  # resident bytes
    cpu: float  # seconds


class Watched:
    """A command, looked at until it ends; `done` counts the runs that are done."""

    def __init__(self, command: list[str], outputs: Path, done: Callable[[], int]) -> None:
        self.looks: list[Look] = []
        self._known: dict[int, psutil.Process] = {}
        self._kinds: dict[int, str] = {}
        begun = time.perf_counter()
        env = os.environ | {"MICROGPT_OUTPUTS": str(outputs)}
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        self._top = psutil.Process(process.pid)
        while process.poll() is None:
            self._look(time.perf_counter() - begun, done())
            time.sleep(LOOK)
        self.wall = time.perf_counter() - begun
        assert process.returncode == 0, command

    @property
    def first(self) -> float:
        """Seconds until the first run had begun."""
        return next((look.seconds for look in self.looks if look.done), 0.0)

    @property
    def cpu(self) -> dict[str, float]:
        """Seconds of all processes of a kind."""
        last = {look.pid: look for look in self.looks}.values()
        kinds = {look.kind for look in last}
        return {kind: sum(look.cpu for look in last if look.kind == kind) for kind in sorted(kinds)}

    def _look(self, seconds: float, done: int) -> None:
        try:
            family = [self._top, *self._top.children(recursive=True)]
        except psutil.Error:
            return
        for process in family:
            self._known.setdefault(process.pid, process)
        for pid, process in self._known.items():
            try:
                kind = self._kinds.setdefault(pid, self._kind(process))
                times, memory = process.cpu_times(), process.memory_info().rss
            except psutil.Error:
                continue
            cpu = times.user + times.system
            self.looks.append(Look(seconds, done, kind, pid, memory, cpu))

    def _kind(self, process: psutil.Process) -> str:
        if process.pid == self._top.pid:
            return "launcher"
        words = " ".join(process.cmdline())
        return next((kind for kind, word in KINDS.items() if word in words), "other")
