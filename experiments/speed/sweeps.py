"""What a sweep costs beside its training: `python experiments/speed/sweeps.py` writes sweeps.json.

`python experiments/speed/report.py` puts it into README.md.

overhead  seconds a job beyond its training, with warm workers: the wall time of a long sweep less that of
          a short one, a job, less the seconds that its run says it has trained
workers   wall time of a sweep with one worker over that with two
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any

HERE = Path(__file__).parent
MICROGPT = str(Path(sys.executable).with_name("microgpt"))
SHORT, LONG = 4, 24  # jobs
TURNS = 3


def sweep(jobs: int, steps: int, workers: int) -> dict[str, float]:
    """Wall seconds of a sweep of so many jobs on a new store, and the mean training seconds of one."""
    words = [
        f"seed=range({jobs})",
        f"trainer.num_steps={steps}",
        f"hydra.launcher.workers={workers}",
    ]
    with tempfile.TemporaryDirectory() as outputs:
        begun = perf_counter()
        subprocess.run(
            [MICROGPT, "train", "-m", *words],
            env=os.environ | {"MICROGPT_OUTPUTS": outputs},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wall = perf_counter() - begun
        rows = [file.read_text().splitlines()[-1] for file in Path(outputs).glob("runs/*/*.jsonl")]
    assert len(rows) == jobs
    return {"wall": wall, "training": mean(json.loads(row)["cost/seconds"] for row in rows)}


def overhead() -> float:
    """Seconds a job beyond its training."""
    short, long = sweep(SHORT, 300, 1), sweep(LONG, 300, 1)
    return (long["wall"] - short["wall"]) / (LONG - SHORT) - long["training"]


def speed_up() -> float:
    """One worker over two."""
    return sweep(12, 2000, 1)["wall"] / sweep(12, 2000, 2)["wall"]


def main() -> None:
    """Measure in turns, and write the medians."""
    turns = [(overhead(), speed_up()) for _ in range(TURNS)]
    results: dict[str, Any] = {
        "overhead_seconds": median(turn[0] for turn in turns),
        "two_workers_over_one": median(turn[1] for turn in turns),
        "turns": turns,
    }
    (HERE / "sweeps.json").write_text(json.dumps(results, indent=1) + "\n")
    print(f"{results['overhead_seconds']:.2f} s a job beyond its training")
    print(f"{results['two_workers_over_one']:.2f} times as fast with two workers as with one")


if __name__ == "__main__":
    main()
