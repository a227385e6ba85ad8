"""How many tracked runs a sweep trains in a minute: `python experiments/speed/throughput.py [RUNS]`.

It writes throughput.json: `microgpt train -m 'seed=range(RUNS)'` of default runs (1,000) with two workers,
beside the same by joblib and MLflow's plain calls (plain_sweep.py), of which as many runs are trained
as take some minutes. Each begins with a store that is there. Processes are looked at from outside, all
that a command starts: CPU seconds, and memory while so many of the runs were done.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from microgpt.tracking import open_store

HERE = Path(__file__).parent
MICROGPT = [sys.executable, "-c", "from microgpt.cli import main; main()"]
RUNS, PLAIN_RUNS = 1000, 60
WORDS = ["engine=native", "hydra.launcher.workers=2"]
LOOK = 0.25  # seconds between two looks
PARTS = 10  # of the runs, for each of which the most memory is kept
KINDS = {
    "sender": "microgpt.tracking.sending",
    "worker": "microgpt.sweep.serve",
    "rival's worker": "joblib",
}


class Watched:
    """A command and all processes that it starts, seen from outside."""

    def __init__(self, command: list[str], outputs: Path, done: Callable[[], int]) -> None:
        self.cpu: dict[str, dict[int, float]] = {}  # kind -> process -> seconds
        self.memory: list[tuple[int, str, int, int]] = []  # runs done, kind, process, bytes
        self.first = 0.0  # seconds until the first run had begun
        self._known: dict[int, psutil.Process] = {}
        self._kinds: dict[int, str] = {}
        begun = time.perf_counter()
        env = os.environ | {"MICROGPT_OUTPUTS": str(outputs)}
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        self._top = psutil.Process(process.pid)
        while process.poll() is None:
            count = done()
            if count and not self.first:
                self.first = time.perf_counter() - begun
            self._look(count)
            time.sleep(LOOK)
        self.wall = time.perf_counter() - begun
        assert process.returncode == 0, command

    def _look(self, count: int) -> None:
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
            self.cpu.setdefault(kind, {})[pid] = times.user + times.system
            self.memory.append((count, kind, pid, memory))

    def _kind(self, process: psutil.Process) -> str:
        if process.pid == self._top.pid:
            return "launcher"
        words = " ".join(process.cmdline())
        return next((kind for kind, word in KINDS.items() if word in words), "other")

    def figures(self, runs: int) -> dict[str, Any]:
        """What to write down."""
        cpu = {kind: round(sum(each.values()), 1) for kind, each in self.cpu.items()}
        return {
            "runs": runs,
            "wall seconds": round(self.wall, 1),
            "runs a minute": round(60 * runs / self.wall, 1),
            "seconds to the first run": round(self.first, 1),
            "CPU seconds": cpu,
            "CPU milliseconds a run": round(1000 * sum(cpu.values()) / runs, 1),
            "memory, MB, by tenths of the runs": self._tenths(runs),
        }

    def _tenths(self, runs: int) -> dict[str, list[int]]:
        """The most memory that one process of a kind had, while each tenth of the runs was done."""
        most: dict[str, list[int]] = {}
        for count, kind, _, memory in self.memory:
            part = min(PARTS - 1, PARTS * count // runs)
            row = most.setdefault(kind, [0] * PARTS)
            row[part] = max(row[part], round(memory / 1e6))
        return {kind: row for kind, row in most.items() if kind != "other"}


def with_workbench(runs: int) -> dict[str, Any]:
    """`microgpt train -m` of default runs."""
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place)
        open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
        folder = outputs / "runs"
        words = ["train", "-m", *WORDS, f"seed=range({runs})"]
        done = lambda: len(os.listdir(folder)) if folder.is_dir() else 0  # noqa: E731
        watched = Watched([*MICROGPT, *words], outputs, done)
        found = [file.lstat() for file in outputs.rglob("*") if file.is_file()]
        size = sum({file.st_ino: file.st_size for file in found}.values())  # links count once
        return watched.figures(runs) | {"MB on disk": round(size / 1e6)}


def without(runs: int) -> dict[str, Any]:
    """The same by joblib and plain calls."""
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place)
        store = f"sqlite:///{outputs}/mlflow.db"
        open_store(store, outputs)
        command = [sys.executable, str(HERE / "plain_sweep.py"), str(runs), store]
        os.chdir(outputs)  # where MLflow puts artifacts
        done = lambda: len([*outputs.glob("mlruns/*/*")])  # noqa: E731
        return Watched(command, outputs, done).figures(runs)


def processor() -> str:
    """Its name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure, print and write."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    results: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load before": os.getloadavg()[0],
        }
    }
    results["microgpt train -m"] = with_workbench(runs)
    print(json.dumps(results, indent=1), flush=True)
    results["joblib and plain MLflow calls"] = without(min(runs, PLAIN_RUNS))
    (HERE / "throughput.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results["joblib and plain MLflow calls"], indent=1))


if __name__ == "__main__":
    main()
