"""Memory and time of a large sweep, and their picture.

Two-step jobs, tracked, on two workers and a store that is there. All processes of the command are looked at
from outside, and what was seen is summed up for each part of the jobs.
"""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "memory.json"
sys.path.append(str(HERE.parent.parent / "experiments/speed"))

from watched import MICROGPT, Look, Watched  # noqa: E402

from microgpt.tracking import open_store  # noqa: E402
from tests.faults.figures import commit, write_page  # noqa: E402

WARM = 100  # jobs after which nothing may grow
MORE = 1.1  # times what was there at job WARM
KINDS = "launcher", "worker", "sender"
WORDS = ["trainer.num_steps=2", "trainer.checkpoint_every=0", "hydra.launcher.workers=2"]


def measured(jobs: int, parts: int) -> dict[str, Any]:
    """What a sweep of so many jobs needs, in so many parts."""
    load = os.getloadavg()[0]
    words = ["train", "-m", *WORDS, f"seed=range({jobs})"]
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place)
        open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
        runs = outputs / "runs"
        done = lambda: len(os.listdir(runs)) if runs.is_dir() else 0  # noqa: E731
        seen = Watched([*MICROGPT, *words], outputs, done)
        assert done() == jobs
    found = rows(seen.looks, jobs, parts)
    return {
        "command": " ".join(["microgpt train -m", *WORDS, f"'seed=range({jobs})'"]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "commit": commit(),
        "load before": round(load, 1),
        "wall seconds": round(seen.wall),
        "seconds to the first run": round(seen.first, 1),
        "growth": growth(found),
        "slower": slower(found),
        "rows": found,
    }


def rows(looks: Sequence[Look], jobs: int, parts: int) -> list[dict[str, float]]:
    """For each part of the jobs: the most memory of a process of each kind in MB, milliseconds a job."""
    size = jobs // parts
    found = []
    for first in range(0, jobs, size):
        part = [look for look in looks if first <= look.done < first + size and look.done]
        if not part:
            continue
        begin, end = part[0], part[-1]
        count = max(1, end.done - begin.done)
        row: dict[str, float] = {"jobs": first + size}
        for kind in KINDS:
            row[kind] = round(max(look.memory for look in part if look.kind == kind) / 1e6, 1)
        row["CPU ms a job"] = round(1000 * (_cpu(part, -1) - _cpu(part, 0)) / count, 1)
        row["ms a job"] = round(1000 * (end.seconds - begin.seconds) / count, 1)
        found.append(row)
    return found


def _cpu(looks: Sequence[Look], which: int) -> float:
    """CPU seconds of all processes in their first (0) or last (-1) look."""
    of: dict[int, list[float]] = {}
    for look in looks:
        of.setdefault(look.pid, []).append(look.cpu)
    return sum(seconds[which] for seconds in of.values())


def growth(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The most memory of each kind of process after WARM jobs, over that in the first part after them."""
    warm = [row for row in found if row["jobs"] > WARM]
    return {kind: round(max(row[kind] for row in warm) / warm[0][kind], 3) for kind in KINDS}


def slower(found: Sequence[dict[str, float]]) -> float:
    """CPU time of a job in the second half of the parts over that in the first half, as medians."""
    times, middle = [row["CPU ms a job"] for row in found], len(found) // 2
    return round(median(times[middle:]) / median(times[:middle]), 3)


def draw(found: Sequence[dict[str, float]], file: Path) -> None:
    """The picture."""
    import matplotlib.pyplot as plt

    figure, (memory, time) = plt.subplots(2, sharex=True, figsize=(8, 6), layout="constrained")
    jobs = [row["jobs"] for row in found]
    for kind in KINDS:
        memory.plot(jobs, [row[kind] for row in found], label=kind)
    memory.set(ylabel="resident memory, MB", ylim=(0, None))
    memory.legend()
    for key, label in (("ms a job", "wall, two workers"), ("CPU ms a job", "CPU, all processes")):
        time.plot(jobs, [row[key] for row in found], label=label)
    time.set(ylabel="milliseconds a job", xlabel="jobs done", ylim=(0, None))
    time.legend()
    figure.savefig(file, dpi=120)


def write(results: dict[str, Any]) -> None:
    """Writes memory.json and memory.png, and the page that shows them."""
    FIGURES.write_text(json.dumps(results, indent=1) + "\n")
    draw(results["rows"], HERE / "memory.png")
    write_page()
