"""Runs the simulations and writes README.md and the picture: `python experiments/method/page.py`."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import picture
import simulate as s

from microgpt.ablation.report.render import markdown_table
from microgpt.ablation.statistics.verdict import Verdict

TIMES = 2000
FOLDER = Path(__file__).parent
DRAWS = {"normal": s.normal, "Student's t, 5 df": s.heavy, "exponential": s.skewed}
Rows = list[tuple[str, ...]]


def run(simulation: Callable[..., Any], *words: Any, **more: Any) -> Any:
    """One simulation with a generator of its own."""
    return simulation(np.random.default_rng(7), TIMES, *words, **more)


def share(value: float) -> str:
    return f"{100 * value:.1f} %"


def coverage() -> Rows:
    rows: Rows = [("differences", "5 seeds", "10 seeds", "50 seeds")]
    for name, draw in DRAWS.items():
        rows.append((name, *(share(run(s.coverage, n, draw)) for n in (5, 10, 50))))
    return rows


def words() -> Rows:
    rows: Rows = [("word", "0", "0.005", "0.01, what matters", "0.02")]
    truths = 0.0, 0.005, s.MATTERS, 0.02
    found = [run(s.words, 10, truth) for truth in truths]
    return rows + [(word, *(share(one[word]) for one in found)) for word in Verdict]


def claims() -> Rows:
    rows: Rows = [("true difference", "seeds", "supported", "by a test against 0, as before")]
    for truth in (0.0095, s.MATTERS):
        for n in (5, 50):
            found = run(s.supported, n, truth)
            rows.append((f"{truth:g}", str(n), share(found["now"]), share(found["before"])))
    return rows


def families() -> Rows:
    head = (
        "seeds",
        "arms",
        "correlation",
        "any false",
        "without correction",
        "multivariate t",
        "width",
    )
    rows: Rows = [head]
    for n, arms in ((5, 4), (50, 4), (5, 15), (50, 15)):
        for correlation in (0.0, 0.5, 0.9):
            found = run(s.family, n, arms, correlation)
            shares = map(share, (found["together"], found["alone"], found["t"]))
            rows.append((str(n), str(arms), f"{correlation:g}", *shares, f"{found['width']:.2f}"))
    return rows


def crossed() -> Rows:
    head = "sd of seeds", "of documents", "seeds", "documents"
    rows: Rows = [
        (*head, "over both", "over seeds, of these documents", "the same, of all documents")
    ]
    cases = [((0.003, 0.06, 0.2), s.normal), ((0.001, 0.06, 0.2), s.normal)]
    cases += [((0.003, 0.0, 0.2), s.normal), ((0.0, 0.06, 0.2), s.normal)]
    cases += [((0.002, 0.06, 0.2), s.skewed)]
    for sds, draw in cases:
        for seeds, documents in ((5, 400), (50, 1000)):
            found = run(s.crossed, seeds, documents, sds, draw)
            of = f"{sds[1]:g}{', skewed' if draw is s.skewed else ''}"
            shares = map(share, found.values())
            rows.append((f"{sds[0]:g}", of, str(seeds), str(documents), *shares))
    return rows


def looks() -> Rows:
    rows: Rows = [("differences", "any of 50 looks", "any of 200 looks")]
    for name, draw in DRAWS.items():
        rows.append((name, *(share(run(s.looks, most, 0.0, draw)) for most in (50, 200))))
    peeks = [share(run(s.peeking, most)) for most in (50, 200)]
    return [*rows, ("normal, by a t-test at each look", *peeks)]


def price() -> Rows:
    head = "true difference / sd", "matters / sd", "fixed, power 0.8", "fixed, power 0.9"
    rows: Rows = [(*head, "sequential, mean", "9 of 10 at most", "worse", "better", "equivalent")]
    for effect, matters in ((0.5, 0), (1, 0), (1.5, 0), (2.5, 0), (4, 0), (0, 1), (0, 2), (0, 4)):
        known = effect * s.SD, matters * s.SD
        numbers = [str(run(s.fixed, *known, power)) for power in (0.8, 0.9)]
        found = run(s.ends, 400, *known)
        numbers += [f"{found['seeds']:.1f}", f"{found['most']:g}"]
        told = (share(found[key]) for key in ("worse", "better", "equivalent"))
        rows.append((f"{effect:g}", f"{matters:g}" if matters else "", *numbers, *told))
    return rows


ONE: dict[str, Any] = {"kind": "worse", "arms": [{"arm": 1}]}
THREE: dict[str, Any] = {"kind": "worse", "arms": [{"arm": 1}, {"arm": 2}, {"arm": 3}]}
OPTIMUM: dict[str, Any] = {"kind": "optimum"}
CLAIMS: list[tuple[str, dict[str, Any], list[float], str]] = [
    ("worse, one arm", ONE, [0, 0.0099], "supported"),
    ("worse, one arm", ONE, [0, 0.01], "refuted"),
    ("worse, all of three arms", THREE, [0, 0.02, 0.02, 0.0099], "supported"),
    ("worse, all of three arms", THREE, [0, 0.01, 0.01, 0.01], "refuted"),
    ("an optimum of five arms", OPTIMUM, [0, -0.0099, -0.0099, -0.0099, 0], "supported"),
    ("an optimum of five arms", OPTIMUM, [0, 0, -0.01, 0, 0], "refuted"),
]


def sequences() -> Rows:
    head = "claim", "true means", "false would be", "a look after every seed", "looks of a protocol"
    rows: Rows = [head]
    for name, claim, means, false in CLAIMS:
        told = (
            share(run(s.sequences, claim, means, 50, each=each)[false]) for each in (True, False)
        )
        rows.append((name, " ".join(f"{mean:g}" for mean in means), false, *told))
    return rows


def spent() -> Rows:
    head = "true difference", "supported", "refuted", "seeds, mean", "fixed, power 0.9"
    rows: Rows = [head]
    for truth in (0.0, 0.005, 0.008, 0.012, 0.015, 0.02):
        found = run(s.sequences, ONE, [0, truth], 50)
        told = share(found["supported"]), share(found["refuted"]), f"{found['seeds']:.1f}"
        number = run(s.fixed, abs(truth - s.MATTERS), 0.0, 0.9)
        rows.append((f"{truth:g}", *told, str(number)))
    return rows


def soak() -> Rows:
    head = "arms", "judgements", "better", "worse", "equivalent", "undecided", "pairs, mean"
    rows: Rows = [head]
    real = json.loads((FOLDER / "soak.json").read_text(encoding="utf-8"))
    names = {"equal": "a tiny model and itself", "wider": "`n_embd=16` against `n_embd=12`"}
    for key, name in names.items():
        told = [one["answer"] for one in real[key]]
        counts = [str(told.count(word)) for word in head[2:6]]
        pairs = sum(one["pairs"] for one in real[key]) / len(told)
        rows.append((name, str(len(told)), *counts, f"{pairs:.1f}"))
    return rows


def power() -> Rows:
    rows: Rows = [("pilot", "`could show` holds", "the number of seeds is enough", "its median")]
    for n in (5, 10, 20, 50):
        found = run(s.promises, n)
        shares = share(found["detectable"]), share(found["seeds"])
        rows.append((f"{n} seeds", *shares, f"{found['median']:g}"))
    return rows


def tables() -> Iterator[tuple[str, str]]:
    """The name and text of each table."""
    makers = coverage, words, claims, families, crossed, looks, price, soak, sequences, spent, power
    for maker in makers:
        yield maker.__name__, markdown_table(maker())


def main() -> None:
    begun = process_time()
    text = (FOLDER / "page.md").read_text(encoding="utf-8")
    found = dict(tables())
    (FOLDER / "README.md").write_text(text.format(times=f"{TIMES:,}", **found), encoding="utf-8")
    picture.draw(FOLDER)
    print(f"{process_time() - begun:.0f} s of CPU")


if __name__ == "__main__":
    main()
