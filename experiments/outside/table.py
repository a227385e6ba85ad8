"""The page about others' figures, README.md, from results.json."""

from collections.abc import Mapping
from math import sqrt
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t

from microgpt.ablation.report.render import markdown_table

LECTURE = "https://github.com/karpathy/nn-zero-to-hero"
EE = "https://github.com/Entrpi/eemicrogpt"
GPT = "https://github.com/karpathy/ng-video-lecture"
TEXT = """# Figures of others

Figures that others published, and what the workbench gets with what they used: their data, their split,
their sizes, rates and steps. Written by `experiments/outside/check.py` from `results.json`; the
configurations stand in `conf/`, and run by themselves:

    PYTHONPATH=experiments/outside microgpt train --config-dir experiments/outside/conf experiment=gpt_dev

{table}

Losses are nats per token. `ours` is the mean over seeds, with the standard deviation; one seed is the
first, 0. `expected` is where one more run of ours would lie 19 times in 20, were the losses normal
(mean and standard deviation of a few seeds, Student's t): others published one run each.
{skipped}
## What the figures are, and where they differ

- **Bigram by counting** (the makemore lecture: counts plus one, as probabilities; the loss of all names).
  The table of our bigram model is set to the logarithms of the counts plus one, and evaluated as any model
  is. The lecture's figure is 0.0002 lower, which is rounding: it adds 228,146 numbers to a running sum in
  float32, which is near 560,000 at the end. Summed so, in the order of the file, ours has its digits.
- **Bigram, trained**: the same model by Adam. The least loss a table can have is 2.4540 (the counts without
  the added one; the lecture has 2.4541, in float32). What is left is the noise of the last steps.
- **eemicrogpt**: the architecture, Adam and schedule of the default, with a batch of 16 names, in float32;
  the mean training loss of the last 100 steps. It draws names with replacement, where we go through a
  shuffled list, and approximates exp to 1e-4. It has one run each, with one seed; another version of its
  README has 2.0782 for the first, after 5,100 steps. The long run takes the native engine, in
  float64, and `--soak`.
- **gpt-dev** (the notebook of the lecture on GPT). All of its 209,729 parameters: no token for the end of a
  text, no biases in queries, keys and values, a bias in the head. Attention is scaled by the width of the
  embeddings, 64, not that of a head, as the notebook's `C**-0.5` does. Its initial weights are PyTorch's,
  and its last evaluation comes after 4,999 updates.
  A difference of this size is what the seed makes: ours differ among themselves as much, and seed 0, which
  had stood here alone, ended lowest. `notebook.py` has the notebook in PyTorch, with modules and random
  numbers made in its order. With the notebook's seed, 1337, it gives 1.8261 by the notebook's estimate,
  between its 1.8222 and the repeat's 1.8275, which have the same initial weights and batches and differ in
  rounding alone. The estimate takes 3,200 windows at random, where ours takes all windows side by side, by
  which that run ends at 1.8321. Both lie where one more run of ours is expected. What else is different,
  float64 and biases that begin at 0, not uniform, was not tried apart from the seed.

names.txt has 29,494 distinct names in 32,033 lines. By the split of the lectures, which shuffles the lines,
a sixth of the test lines stand in the training part too; losses of such a split are too low by what is
learnt by heart. The figures above do not use it: those of names are of the names of the training.
"""


class Published(NamedTuple):
    """A figure of others."""

    what: str
    source: str
    theirs: float
    digits: int = 4


PUBLISHED = {
    "counted": Published("bigram by counting", f"[makemore, part 1]({LECTURE})", 2.4543562, 6),
    "counted, float32": Published(
        "the same, summed in float32", f"[makemore, part 1]({LECTURE})", 2.4543562, 6
    ),
    "bigram": Published("bigram, trained", f"[makemore, part 1]({LECTURE})", 2.4540942),
    "eemicrogpt": Published("n_embd 32, 5,150 steps", f"[eemicrogpt]({EE})", 2.0747),
    "eemicrogpt, long": Published("n_embd 32, 500,000 steps", f"[eemicrogpt]({EE})", 1.92),
    "gpt-dev": Published("gpt-dev, Tiny Shakespeare", f"[ng-video-lecture]({GPT})", 1.8222),
    "gpt-dev, repeat": Published("a repeat of it", "a reader's run of it", 1.8275),
}


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page in Markdown."""
    head = (
        "figure",
        "source",
        "theirs",
        "ours",
        "seeds",
        "difference",
        "expected",
        "seconds a run",
    )
    rows, skipped = [head], []
    for name, published in PUBLISHED.items():
        found = results.get(name.removesuffix(", repeat"), {"skipped": "not trained"})
        if "skipped" in found:
            skipped.append(f"- {published.what}: {found['skipped']}")
        else:
            rows.append(row(published, found))
    told = "\n".join(["", "Skipped:", "", *skipped, ""]) if skipped else ""
    return TEXT.format(table=markdown_table(rows), skipped=told)


def row(of: Published, found: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    ours, n = found["ours"], of.digits
    mean, sd = fmean(ours), stdev(ours) if len(ours) > 1 else None
    wide = None if sd is None else t.ppf(0.975, len(ours) - 1) * sd * sqrt(1 + 1 / len(ours))
    return (
        of.what,
        of.source,
        f"{of.theirs:.{n}f}".rstrip("0"),
        f"{mean:.{n}f}" + (f" (sd {sd:.4f})" if sd is not None else ""),
        str(len(ours)),
        f"{mean - of.theirs:+.{n}f}",
        f"{mean - wide:.4f} to {mean + wide:.4f}" if wide is not None else "",
        _seconds(found.get("seconds")),
    )


def _seconds(found: float | None) -> str:
    """Seconds a run; empty where the machine was busy with other things."""
    if found is None:
        return ""
    return f"{found:.0f}" if found >= 1 else "< 1"
