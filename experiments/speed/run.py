"""Time the engines and their rivals, and write README.md, results.json and speed.png.

    pip install -e '.[bench]' && python experiments/speed/run.py
    python experiments/speed/run.py --ratios         # on another Python: what the ratios need

Rivals take turns in one process, one thread each; a figure is the median of the CPU time of a step,
and a ratio the median of the ratios of turns that stood beside each other.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import report
from rivals import Size, rivals, trainer

from microgpt.core.data import make_batch

HERE = Path(__file__).parent
SIZES = [
    *(Size(n_embd=n, batch_size=b) for n in (16, 32, 64, 128) for b in (1, 8, 32)),
    Size(n_layer=4),
    Size(block_size=64),
    Size(n_embd=64, n_layer=4),
    Size(n_embd=64, block_size=64),
]
RATIOS = [Size(n_embd=n, batch_size=b) for n in (16, 64) for b in (1, 32)]
SLICE = 0.2  # seconds that a rival runs before it is the next one's turn


def steps_in(step: Callable[[], object], seconds: float) -> int:
    """How many steps fill so many seconds, after a warm-up."""
    step()
    begun = process_time()
    step()
    step()
    once = (process_time() - begun) / 2
    return max(1, round(seconds / max(once, 1e-6)))


def compare(size: Size, turns: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of CPU a step: rival -> one figure for each turn."""
    steps = dict(rivals(size, folder))
    counts = {name: steps_in(step, SLICE) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        if size == Size():
            times.setdefault("original", []).append(original_program(folder))
        for name, step in steps.items():
            begun = process_time()
            for _ in range(counts[name]):
                step()
            times[name].append((process_time() - begun) / counts[name])
    return times


def original_program(folder: Path) -> float:
    """The original's seconds a step, alone in a process: its garbage collector walks all that is loaded."""
    words = [sys.executable, str(HERE / "original.py"), str(folder / "block-16.txt"), "60"]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def sampling(engine: str, folder: Path) -> dict[str, float]:
    """Tokens a second, and a sampled token's cost over that of a position in a training forward.

    The forward is that of the documents just drawn: at other places other numbers of keys are seen.
    """
    run = trainer(engine, Size(), folder)
    tokenizer, model, ops = run.corpus.tokenizer, run.model, run.engine
    sampled: list[float] = []
    forward: list[float] = []
    run.sampler.num_samples = 50
    for _ in range(7):
        begun = process_time()
        args = (model, ops, run.weights, tokenizer, run.streams("sampling"))
        texts = list(run.sampler.samples(*args))
        spent = process_time() - begun
        batches = [make_batch([text], tokenizer, 16) for text in texts]
        tokens = sum(len(batch.tokens) for batch in batches)
        sampled.append(spent / tokens)
        begun = process_time()
        for batch in batches:
            logits = model(ops, run.weights, batch.tokens, batch.spans)
            ops.cross_entropy(logits, batch.targets)
        forward.append((process_time() - begun) / tokens)
    ratio = median(a / b for a, b in zip(sampled, forward))
    return {"tokens_per_second": 1 / median(sampled), "over_forward": ratio}


def command(words: list[str], folder: Path) -> dict[str, float]:
    """Wall seconds and peak memory in MB of a `microgpt` command."""
    program = (
        "import resource, subprocess, sys, time; begun = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(time.perf_counter() - begun,"
        " resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    microgpt = str(Path(sys.executable).with_name("microgpt"))
    words = [sys.executable, "-c", program, microgpt, *words]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    seconds, memory = map(float, done.stdout.split()[-2:])
    return {"seconds": seconds, "megabytes": memory}


def commands(turns: int, folder: Path) -> list[dict[str, dict[str, float]]]:
    """Start-up, and what tracking costs a run: each turn has every command once."""
    one = ["train", "trainer.num_steps=1", "trainer.eval_documents=0", "sampling.num_samples=0"]
    few = ["trainer.num_steps=200", "trainer.eval_documents=0"]
    kinds = {
        "microgpt train --help": ["train", "--help"],
        "one step, untracked": [*one, "tracking=none"],
        "one step, tracked": one,
        "default run, untracked": ["train", "tracking=none"],
        "default run, tracked": ["train"],
        "microgpt sync": ["sync"],
        **{
            f"200 steps, untracked, engine={name}": [
                "train",
                "tracking=none",
                f"engine={name}",
                *few,
            ]
            for name in ("vector", "numpy")
        },
    }
    command(one, folder)  # makes the store
    return [{name: command(words, folder) for name, words in kinds.items()} for _ in range(turns)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--turns", type=int, default=9, help="turns of each rival at each size")
    less = parser.add_mutually_exclusive_group()
    less.add_argument("--quick", action="store_true", help="the default size alone, write nothing")
    less.add_argument("--ratios", action="store_true", help="what the ratios need, of this Python")
    options = parser.parse_args()
    sizes = SIZES[:1] if options.quick else RATIOS if options.ratios else SIZES
    begun, load = perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps = []
        for size in sizes:
            times = compare(size, options.turns, folder)
            steps.append({"size": vars(size), "seconds": times})
            print(f"{size}: {report.line(times)}", flush=True)
        if options.quick:
            return
        engines = ["vector"] if options.ratios else ["scalar", "vector", "numpy float64"]
        run = {
            "machine": f"CPython {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}",
            "steps": steps,
            "sampling": {engine: sampling(engine, folder) for engine in engines},
            "load": load,
        }
        if not options.ratios:
            run["commands"] = commands(options.turns, folder)
    run["minutes"] = (perf_counter() - begun) / 60
    keep(run, whole=not options.ratios)


def keep(run: dict[str, Any], whole: bool) -> None:
    """Merge a run with those on other Pythons, and write all there is to read."""
    file = HERE / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {"pythons": {}}
    few = [entry for entry in run["steps"] if Size(**entry["size"]) in RATIOS]
    python = ".".join(platform.python_version_tuple()[:2])
    before = results["pythons"].get(python, {}).get("sampling", {})  # of engines left out today
    results["pythons"][python] = run | {"steps": few, "sampling": before | run["sampling"]}
    if whole:
        results["whole"] = run
    file.write_text(json.dumps(results, indent=1) + "\n")
    report.write(results, HERE)


if __name__ == "__main__":
    main()
