"""How many tracked runs a sweep trains in a minute: `python experiments/speed/throughput.py [RUNS]`.

It writes throughput.json: `microgpt train -m 'seed=range(RUNS)'` of default runs (1,000) with two workers,
beside the same by joblib and MLflow's plain calls (plain_sweep.py), of which as many runs are trained
as take some minutes. Each begins with a store that is there. Processes are looked at from outside, all
that a command starts: CPU seconds, and memory while so many of the runs were done.
"""

import json
import os
import platform
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from watched import MICROGPT, Watched

from microgpt.tracking import open_store

HERE = Path(__file__).parent
RUNS, PLAIN_RUNS = 1000, 60
WORDS = ["engine=native", "hydra.launcher.workers=2"]
PARTS = 10  # of the runs, for each of which the most memory is kept


def figures(watched: Watched, runs: int) -> dict[str, Any]:
    """What to write down."""
    cpu = watched.cpu
    return {
        "runs": runs,
        "wall seconds": round(watched.wall, 1),
        "runs a minute": round(60 * runs / watched.wall, 1),
        "seconds to the first run": round(watched.first, 1),
        "CPU seconds": {kind: round(each, 1) for kind, each in cpu.items()},
        "CPU milliseconds a run": round(1000 * sum(cpu.values()) / runs, 1),
        "memory, MB, by tenths of the runs": tenths(watched, runs),
    }


def tenths(watched: Watched, runs: int) -> dict[str, list[int]]:
    """The most memory that one process of a kind had, while each tenth of the runs was done."""
    most: dict[str, list[int]] = {}
    for look in watched.looks:
        part = min(PARTS - 1, PARTS * look.done // runs)
        row = most.setdefault(look.kind, [0] * PARTS)
        row[part] = max(row[part], round(look.memory / 1e6))
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
        return figures(watched, runs) | {"MB on disk": round(size / 1e6)}


def without(runs: int) -> dict[str, Any]:
    """The same by joblib and plain calls."""
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place)
        store = f"sqlite:///{outputs}/mlflow.db"
        open_store(store, outputs)
        command = [sys.executable, str(HERE / "plain_sweep.py"), str(runs), store]
        os.chdir(outputs)  # where MLflow puts artifacts
        done = lambda: len([*outputs.glob("mlruns/*/*")])  # noqa: E731
        return figures(Watched(command, outputs, done), runs)


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
