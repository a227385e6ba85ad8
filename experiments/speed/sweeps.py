"""What a sweep costs beside its training: `python experiments/speed/sweeps.py` writes sweeps.json.

`python experiments/speed/report.py` puts it into README.md.

A short and a long sweep are trained by one worker, then by two. The difference of their wall times, a
job, is what a job takes once the workers are warm. That of one worker less the seconds that the runs
say they have trained, evaluated and written checkpoints is overhead, in wall time and in CPU time of all
processes. Runs say so for the last time before they write the last checkpoint and draw their samples, so
that these are overhead here, and so is what the store takes for the figures of each logged step. A job of
ten steps has little else than overhead: its CPU time is told as a whole. The CPU time of a job is also
told by the kind of process. The wall time of one worker over that of two is what the second worker is
worth. What two processes that share nothing get out of the machine is measured beside it: virtual cores
are seldom two.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter

from watched import MICROGPT, Watched

HERE = Path(__file__).parent
SHORT, LONG = 20, 120  # jobs
STEPS = 1000
FEW = 10  # steps that take no time: what is left of a job is overhead
TURNS = 5
KINDS = "launcher", "worker", "sender"  # of processes


def sweep(jobs: int, workers: int, steps: int = STEPS) -> dict[str, float]:
    """Seconds of a sweep of so many jobs on a new store: wall, CPU of all processes, a job's training."""
    words = [f"seed=range({jobs})", f"trainer.num_steps={steps}"]
    command = [*MICROGPT, "train", "-m", *words, f"hydra.launcher.workers={workers}"]
    with tempfile.TemporaryDirectory() as place:
        outputs = Path(place)
        watched = Watched(command, outputs, lambda: 0)
        rows = [file.read_text().splitlines()[-1] for file in outputs.glob("runs/*/*.jsonl")]
    assert len(rows) == jobs
    training = mean(json.loads(row)["cost/seconds"] for row in rows)
    cpu = watched.cpu
    return {"wall": watched.wall, "CPU": sum(cpu.values()), "training": training, **cpu}


def two_over_one() -> float:
    """Runs that two processes with nothing in common end in the time in which one ends one."""
    words = [*MICROGPT, "train", "tracking=none", "progress=false", "trainer.num_steps=1500"]

    def seconds(count: int) -> float:
        with tempfile.TemporaryDirectory() as outputs:
            begun = perf_counter()
            processes = [
                subprocess.Popen(
                    [*words, f"paths.outputs={outputs}/{i}"], stdout=subprocess.DEVNULL
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
    few = [sweep(jobs, 1, FEW)["CPU"] for jobs in (SHORT, LONG)]
    cpu = {kind: (long[0][kind] - short[0][kind]) / (LONG - SHORT) for kind in ("CPU", *KINDS)}
    return {
        "seconds of a warm job beyond its training": one - long[0]["training"],
        "CPU seconds of a warm job beyond its training": cpu["CPU"] - long[0]["training"],
        **{f"CPU seconds of a warm job, {kind}": cpu[kind] for kind in KINDS},
        f"CPU seconds of a warm job of {FEW} steps, all of it": (few[1] - few[0]) / (LONG - SHORT),
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
