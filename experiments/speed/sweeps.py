"""What a sweep costs beside its training: `python experiments/speed/sweeps.py` writes sweeps.json.

`python experiments/speed/report.py` puts it into README.md.

A short and a long sweep are trained by one worker, then by two. The difference of their wall times, a
job, is what a job takes once the workers are warm. That of one worker less the seconds that the runs
say they have trained is overhead; over that of two it is what the second worker is worth. What two
processes that share nothing get out of the machine is measured beside it: virtual cores are seldom two.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter

HERE = Path(__file__).parent
MICROGPT = str(Path(sys.executable).with_name("microgpt"))
SHORT, LONG = 4, 16  # jobs
STEPS = 600
TURNS = 5


def sweep(jobs: int, workers: int) -> dict[str, float]:
    """Wall seconds of a sweep of so many jobs on a new store, and the mean training seconds of one."""
    words = [f"seed=range({jobs})", f"trainer.num_steps={STEPS}"]
    with tempfile.TemporaryDirectory() as outputs:
        begun = perf_counter()
        subprocess.run(
            [MICROGPT, "train", "-m", *words, f"hydra.launcher.workers={workers}"],
            env=os.environ | {"MICROGPT_OUTPUTS": outputs},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wall = perf_counter() - begun
        rows = [file.read_text().splitlines()[-1] for file in Path(outputs).glob("runs/*/*.jsonl")]
    assert len(rows) == jobs
    return {"wall": wall, "training": mean(json.loads(row)["cost/seconds"] for row in rows)}


def two_over_one() -> float:
    """Runs that two processes with nothing in common end in the time in which one ends one."""
    words = [MICROGPT, "train", "tracking=none", "progress=false", "trainer.num_steps=1500"]

    def seconds(count: int) -> float:
        with tempfile.TemporaryDirectory() as outputs:
            begun = perf_counter()
            processes = [
                subprocess.Popen(
                    [*words, f"hydra.run.dir={outputs}/{i}"], stdout=subprocess.DEVNULL
                )
                for i in range(count)
            ]
            codes = [process.wait() for process in processes]
            assert not any(codes), codes
            return perf_counter() - begun

    return 2 * seconds(1) / seconds(2)


def turn() -> dict[str, float]:
    """All figures once."""
    short, long = ([sweep(jobs, workers) for workers in (1, 2)] for jobs in (SHORT, LONG))
    one, two = ((b["wall"] - a["wall"]) / (LONG - SHORT) for a, b in zip(short, long))
    return {
        "seconds of a warm job beyond its training": one - long[0]["training"],
        "one worker over two, warm": one / two,
        "two processes that share nothing, over one": two_over_one(),
        "one worker over two, a whole sweep": long[0]["wall"] / long[1]["wall"],
        "seconds to start, on a new store": short[0]["wall"] - SHORT * one,
    }


def main() -> None:
    """Measure in turns, print and write them."""
    turns = []
    for _ in range(TURNS):
        turns.append(turn())
        print("  ".join(f"{name} {value:.2f}" for name, value in turns[-1].items()), flush=True)
    figures = {name: median(each[name] for each in turns) for name in turns[0]}
    results = {"jobs": LONG, "steps": STEPS, "median": figures, "turns": turns}
    (HERE / "sweeps.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
