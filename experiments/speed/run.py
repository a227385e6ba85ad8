"""Time the engines and their rivals, and write README.md, results.json and speed.png.

    pip install -e '.[bench]' && python experiments/speed/run.py
    python experiments/speed/run.py --ratios         # on another Python: what the ratios need

Rivals take turns, one thread each; a figure is the median of the CPU time of a step, and a ratio
the median of the ratios of turns that stood beside each other.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import argparse
import json
import platform
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import machine
import report
from processes import commands
from rivals import Size, rivals, trainer

from microgpt.core.sampling import Sampler

HERE = Path(__file__).parent
RATIOS = [Size(), Size(batch_size=32), Size(n_embd=64), Size(n_embd=64, batch_size=32)]
SIZES = [
    *RATIOS,
    Size(n_embd=128, batch_size=32),
    Size(n_embd=32),
    Size(n_embd=128),
    Size(batch_size=8),
    Size(n_layer=4),
    Size(block_size=64),
]


def compare(size: Size, turns: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of CPU a step: rival -> one figure for each turn."""
    taking_turns = dict(rivals(size, folder))
    times: dict[str, list[float]] = {name: [] for name in taking_turns}
    for _ in range(turns):
        for name, turn in taking_turns.items():
            times[name].append(turn())
    return times


def sampling(engine: str, folder: Path) -> dict[str, float]:
    """Tokens a second, and a sampled token's cost over that of a position in a training forward.

    The forward is that of the documents just drawn: at other places other numbers of keys are seen.
    """
    run = trainer(engine, Size(), folder)
    model, ops, corpus = run.model, run.engine, run.corpus
    count, turns = (5, 3) if engine == "scalar" else (50, 7)
    sampler = Sampler(num_samples=count, temperature=0.5, top_k=0, top_p=1.0)
    sampled: list[float] = []
    forward: list[float] = []
    for _ in range(turns):
        begun = process_time()
        texts = list(sampler.samples(model, ops, run.weights, corpus, run.streams("sampling")))
        spent = process_time() - begun
        batches = list(corpus.held_out(texts, count, 1, 16))
        tokens = sum(len(batch.tokens) for batch in batches)
        sampled.append(spent / tokens)
        begun = process_time()
        for batch in batches:
            logits = model(ops, run.weights, batch.tokens, batch.spans)
            ops.values(ops.cross_entropy(logits, batch.targets))
        forward.append((process_time() - begun) / tokens)
    ratio = median(a / b for a, b in zip(sampled, forward))
    return {"tokens_per_second": 1 / median(sampled), "over_forward": ratio}


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
        engines = ["native", "vector"] + ([] if options.ratios else ["numpy float64", "scalar"])
        run = {
            "machine": machine.facts(),
            "turns": options.turns,
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
    results["pythons"][python] = run | {"steps": few}
    if whole:
        results["whole"] = run
    file.write_text(json.dumps(results, indent=1) + "\n")
    report.write(results, HERE)


if __name__ == "__main__":
    main()
