"""From the bench's results to README.md and speed.png. Every number there is written here.

`python experiments/speed/report.py` writes them again, from the JSON files that are there.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

RIVALS = [
    *("original", "scalar", "vector", "native", "native recorded", "numpy float64"),
    *("numpy float32", "torch float32", "C floor", "C floor fast-math"),
]
COLOURS = [
    *("#000000", "#999999", "#d55e00", "#cc0000", "#e78ac3", "#0072b2", "#56b4e9", "#009e73"),
    *("#7f6000", "#bf9000"),
]
MATHEMATICS = """
The vector engine takes {ratios} of what it would with the C library's exp, log and tanh, which have other
bits on other machines, at the default size.
"""

SAMPLING = """
A token from the default model, drawn, over a position of a training forward of the same engine and the
same documents.
"""

TRACKING = """
Over {turns} turns a tracked default run takes {whole:.2f} of an untracked one ({whole_spread}). Memory is
that of the process that trains, at its peak; MLflow is loaded by a process beside it, with the memory of
`microgpt sync`.
"""

SWEEPS = """
Sweeps of {jobs} jobs of {steps} steps: medians over turns, with the least and the most of them. Warm is
what a further job takes, without start-up; CPU is that of all processes. The training is what runs say it
took before their last checkpoint and their samples, with evaluations. Asked are at most 0.06 s of CPU
of a job beyond its training, evaluations and checkpoints, on the machine on which a job of 10 steps once
took 0.27; what two processes get out of this machine bounds what a second worker is worth.
Written by `sweeps.py`.
"""

STORE = """
Seconds of wall time in a SQLite store, and a folder, of so many runs, each with its params, tags and
figures, all in memory; the least of three turns, of whole sweeps and `-n 0` one. Load average at the
beginning: {loads}. Written by `store.py`.
"""

THROUGHPUT = """
Default runs, tracked, on two workers and a store that is there; on {processor}, {cores} cores,
Python {python}, load average {load before:.1f} before. CPU is that of all processes, memory the most
that one process of a kind had, first to last tenth of the runs. Written by `throughput.py`.
"""

PUBLISHED = """
## Published elsewhere

Quoted, not measured here, and from other machines; each is the original's model at n_embd 16, on names.

"""
QUOTED = [  # from the README of each
    ["program", "time", "language and machine", "source"],
    [
        "microjpt",
        "31 us a step at batch 1",
        "Julia, Apple M5, one core",
        "github.com/ssrhaso/microjpt",
    ],
    [
        "EEmicroGPT",
        "3.0 us a document at batch 16",
        "C, float32, Apple M5, one core",
        "github.com/Entrpi/eemicrogpt",
    ],
    [
        "microgpt-efficiency",
        "0.15 ms a step at batch 1",
        "NumPy, the CPU of a PC with an RTX 5080",
        "github.com/chanjoongx/microgpt-efficiency",
    ],
]

RATIOS = [  # slower over quicker, at n_embd, batch: what it should be, and at best
    ("vector", "native", (16, 1), "at least 55", "100"),
    ("vector", "native", (64, 32), "at least 200", "250"),
    ("original", "native", (16, 1), "at least 1,500", "3,000"),
    ("torch float32", "native", (16, 1), "at least 15", "30"),
    ("torch float32", "native", (64, 1), "at least 4", "5"),
    ("torch float32", "native", (64, 32), "at least 1.3", "1.5"),
    *(
        ("numpy float64", "native", size, "at least 1.05", "1.2")
        for size in ((16, 1), (16, 32), (64, 1), (64, 32), (128, 32))
    ),
    ("native", "C floor", (16, 1), "at most 2.0", "1.1"),
    ("native", "C floor fast-math", (16, 1), "", ""),
    ("scalar", "vector", (16, 1), "at least 18", "30"),
    ("original", "vector", (16, 1), "at least 32", "50"),
    ("torch float32", "numpy float64", (16, 1), "at least 3", "4"),
    ("torch float32", "numpy float64", (16, 32), "at least 1.3", "1.5"),
    ("torch float32", "numpy float64", (64, 1), "at least 1.5", "2"),
    ("torch float32", "numpy float32", (64, 32), "at least 0.7", "1.0"),
]

HEAD = """# How fast it is

Written by `python experiments/speed/run.py --turns {turns}` in {minutes:.0f} minutes, on

{machine}
Milliseconds of CPU for a whole step of training, medians over turns, one thread each, with the middle half
of the turns behind them. Documents are the default names; at block 64 three to seven of them make a line.
`native` replays a shape of batch that it knows, as it does in training; `native recorded` knows none.
`C floor` is [floor.c](floor.c): the same step fused by hand in C for one size, compiled with `-O3
-march=native`, by which a product and a sum may become one rounding; beside it the same with `-ffast-math`.
Without it a square root may set `errno`, so that Adam is computed number by number. The program's losses
are compared with the vector engine's before it is timed. What was tried: [NOTES.md](NOTES.md).

"""
PYTHONS = """
A column for each Python that the bench has run on: `run.py --ratios` there. A ratio is the median of the
ratios of turns that stood beside each other in one run. Blank: a rival that was not there. Load average
when these runs began: {loads}.
"""


def line(times: dict[str, list[float]]) -> str:
    """One size on one line."""
    return "  ".join(f"{name} {median(t) * 1000:.3f} ms" for name, t in times.items())


def write(results: dict[str, Any], folder: Path) -> None:
    """README.md and speed.png in `folder`, with the results of the other benches that are there."""
    files = [folder / f"{name}.json" for name in OTHERS]
    results = results | {f.stem: json.loads(f.read_text()) for f in files if f.exists()}
    whole = results["whole"]
    facts = "".join(f"- {name}: {value}\n" for name, value in whole["machine"].items())
    parts = [HEAD.format(**whole | {"machine": facts}), steps_table(whole["steps"])]
    parts += [
        f"\n## {title}\n\n{text}" for title, section in SECTIONS if (text := section(results))
    ]
    (folder / "README.md").write_text("".join(parts) + PUBLISHED + table(QUOTED))
    figure(whole["steps"], folder / "speed.png")


def steps_table(steps: list[dict[str, Any]]) -> str:
    """Sizes down, rivals across."""
    rows = [["n_embd", "batch", "n_layer", "block", *RIVALS]]
    for entry in steps:
        size, times = entry["size"], entry["seconds"]
        sizes = [str(size[key]) for key in ("n_embd", "batch_size", "n_layer", "block_size")]
        rows.append([*sizes, *(spread(times[name]) if name in times else "" for name in RIVALS)])
    return table(rows)


def spread(seconds: list[float]) -> str:
    """Median and the middle half, in milliseconds."""
    ordered = sorted(seconds)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    return f"{digits(median(ordered))} ({digits(low)}-{digits(high)})"


def digits(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:,.0f}" if milliseconds >= 1000 else f"{milliseconds:.3g}"


def ratios_table(results: dict[str, Any]) -> str:
    """What was to be reached, and what was measured on each Python; what the same bits cost."""
    pythons = dict(sorted(results["pythons"].items()))
    rows = [["", "n_embd", "batch", *pythons, "asked", "stretch"]]
    for slow, quick, size, least, stretch in RATIOS:
        measured = [ratio(run["steps"], slow, quick, size) for run in pythons.values()]
        rows.append([f"{slow} / {quick}", *map(str, size), *measured, least, stretch])
    cost = [ratio(run["steps"], "vector", "vector on libm", (16, 1)) for run in pythons.values()]
    known = {python: run["load"] for python, run in pythons.items() if "load" in run}
    loads = ", ".join(f"{load:.1f} ({python})" for python, load in known.items()) or "not recorded"
    return table(rows) + PYTHONS.format(loads=loads) + MATHEMATICS.format(ratios=", ".join(cost))


def ratio(steps: list[dict[str, Any]], slow: str, quick: str, size: tuple[int, int]) -> str:
    """Of one run, at n_embd and batch; blank where a rival was not there."""
    for entry in steps:
        if (entry["size"]["n_embd"], entry["size"]["batch_size"]) == size:
            times = entry["seconds"]
            if slow in times and quick in times:
                value = median(a / b for a, b in zip(times[slow], times[quick]))
                return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return ""


def sampling_table(results: dict[str, Any]) -> str:
    """Tokens a second from the default model; what a token costs, on each Python."""
    pythons = dict(sorted(results["pythons"].items()))
    rows = [["engine", "tokens / s", *(f"token / position, {python}" for python in pythons)]]
    for engine, figures in results["whole"]["sampling"].items():
        of_each = [run["sampling"].get(engine) for run in pythons.values()]
        ratios = [f"{there['over_forward']:.2f}" if there else "" for there in of_each]
        rows.append([engine, f"{figures['tokens_per_second']:,.0f}", *ratios])
    return table(rows) + SAMPLING


def commands_table(results: dict[str, Any]) -> str:
    """Wall time and memory of whole commands, and what tracking adds; medians over turns."""
    turns: list[dict[str, Any]] = results["whole"]["commands"]
    rows = [["command", "seconds", "peak memory, MB"]]
    for name in turns[0]:
        seconds, memory = (median(t[name][key] for t in turns) for key in ("seconds", "megabytes"))
        rows.append([name, f"{seconds:.2f}", f"{memory:.0f}"])
    tracked, untracked = (
        [turn[name]["seconds"] for turn in turns]
        for name in ("default run, tracked", "default run, untracked")
    )
    whole = [a / b for a, b in zip(tracked, untracked)]
    figures = {"whole": median(whole), "whole_spread": between(whole)}
    return table(rows) + TRACKING.format(**figures, turns=len(turns))


def between(figures: list[float]) -> str:
    """The least and the most of several turns."""
    return f"{min(figures):.2f} to {max(figures):.2f}"


def growth_table(results: dict[str, Any]) -> str:
    """Exponents of a least-squares line through the logarithms, over n_embd and over the batch."""
    steps = results["whole"]["steps"]
    rows = [["exponent of a step's time in", *RIVALS[1:]]]
    for key, other in (("n_embd", "batch_size"), ("batch_size", "n_embd")):
        row = [f"{key} ({other} at its smallest)"]
        least = min(entry["size"][other] for entry in steps)
        for name in RIVALS[1:]:
            points = [
                (math.log(entry["size"][key]), math.log(median(entry["seconds"][name])))
                for entry in steps
                if entry["size"][other] == least
                and (entry["size"]["n_layer"], entry["size"]["block_size"]) == (1, 16)
                and name in entry["seconds"]
            ]
            row.append(f"{slope(points):.2f}" if len(points) > 1 else "")
        rows.append(row)
    return table(rows) + "\n![Time a step](speed.png)\n"


def sweeps_table(results: dict[str, Any]) -> str:
    """What a sweep costs beside its training."""
    sweeps: dict[str, Any] = results.get("sweeps", {})
    if not sweeps:
        return ""
    rows = [["sweeps", "median", "turns"]]
    for name, figure in sweeps["median"].items():
        turns = [turn[name] for turn in sweeps["turns"]]
        rows.append([name, f"{figure:.2f}", between(turns)])
    return table(rows) + SWEEPS.format(**sweeps)


def throughput_table(results: dict[str, Any]) -> str:
    """How many tracked runs a sweep ends in a minute, and what all its processes take."""
    throughput: dict[str, Any] = results.get("throughput", {})
    if not throughput:
        return ""
    plain = ["runs", "wall seconds", "runs a minute", "seconds to the first run"]
    rows = [["", *plain, "CPU ms a run", "memory, MB"]]
    for name, figures in throughput.items():
        if name != "machine":
            memory = figures["memory, MB, by tenths of the runs"].items()
            shown = "; ".join(f"{kind} {tenths[0]} to {tenths[-1]}" for kind, tenths in memory)
            numbers = [f"{figures[key]:,}" for key in plain]
            rows.append([name, *numbers, f"{figures['CPU milliseconds a run']:,}", shown])
    return table(rows) + THROUGHPUT.format(**throughput["machine"])


def store_table(results: dict[str, Any]) -> str:
    """What a user waits for, against the number of runs that there are."""
    sizes: dict[str, dict[str, Any]] = results.get("store", {})
    if not sizes:
        return ""
    rows = [["runs", *(f"{int(size):,}" for size in sizes)]]
    for name in next(iter(sizes.values()))["seconds"]:
        rows.append([name, *(f"{of_size['seconds'][name]:.2f}" for of_size in sizes.values())])
    loads = ", ".join(f"{of_size['load']:.1f}" for of_size in sizes.values())
    return table(rows) + STORE.format(loads=loads)


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line."""
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in points)
    return covariance / sum((x - x_mean) ** 2 for x, _ in points)


def table(rows: list[list[str]]) -> str:
    """Markdown."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body]) + "\n"


def figure(steps: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds a step against n_embd, a panel for each batch size."""
    import matplotlib.pyplot as plt

    panels, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for axis, batch in zip(axes, (1, 32)):
        for name, colour in zip(RIVALS, COLOURS):
            points = [
                (entry["size"]["n_embd"], median(entry["seconds"][name]) * 1000)
                for entry in steps
                if (entry["size"]["batch_size"], entry["size"]["n_layer"]) == (batch, 1)
                and entry["size"]["block_size"] == 16
                and name in entry["seconds"]
            ]
            if points:
                axis.plot(*zip(*sorted(points)), marker="o", color=colour, label=name)
        axis.set(xscale="log", yscale="log", xlabel="n_embd", title=f"batch {batch}")
        axis.set_xticks([16, 32, 64, 128], ["16", "32", "64", "128"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds a step")
    panels.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    panels.savefig(path, dpi=130)


# What a section needs stands under a key of the results; without it, it returns nothing and is left out.
SECTIONS: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
    ("Ratios", ratios_table),
    ("Sampling", sampling_table),
    ("Commands", commands_table),
    ("Growth", growth_table),
    ("A thousand tracked runs", throughput_table),
    ("Sweeps", sweeps_table),
    ("Many runs", store_table),
]
OTHERS = (
    "sweeps",
    "store",
    "throughput",
)  # benches with results of their own, under the key of that name

if __name__ == "__main__":
    HERE = Path(__file__).parent
    write(json.loads((HERE / "results.json").read_text()), HERE)
