"""What a report says beside its table: costs, slopes, samples, documents, departures, in words."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.records.sweep import Arm, Run
from microgpt.ablation.report import words
from microgpt.ablation.report.figures import curves, draw, farthest, rates
from microgpt.ablation.report.flattened import flattened
from microgpt.ablation.report.multiplier import mean_curve, multiplier, spread
from microgpt.ablation.report.over_documents import crossed
from microgpt.ablation.report.samples import by_chance, sampled
from microgpt.ablation.report.splits import Splits
from microgpt.ablation.statistics.crossed import over_seeds_and_documents
from microgpt.run.held_out import HeldOut
from microgpt.trust import OURS_ALONE
from tests.sweeps import (
    CONFIG,
    DOCUMENTS,
    HEADS,
    Made,
    heads,
    lock_of,
    noisy,
    page_of,
    rows,
)

STEPS = (200, 400, 600, 800, 1000)


def arm(name: str, curves: Sequence[Sequence[float]], last_rate: float = 0.01) -> Arm:
    """An arm with a run for each curve, which has a loss for each of STEPS."""
    runs = []
    for seed, curve in enumerate(curves):
        rates = [0.01] * (len(curve) - 1) + [last_rate]
        logged = [
            {"step": step, "val/loss": loss, "lr": rate}
            for step, loss, rate in zip(STEPS, curve, rates)
        ]
        metrics = {"val/loss": curve[-1]}
        runs.append(Run(f"{name} {seed}", name, seed, "finished", {}, metrics=metrics, rows=logged))
    return Arm(name, {}, tuple(runs))


BASE = arm("base", [[2.8, 2.6, 2.4, 2.3, 2.2], [2.9, 2.7, 2.5, 2.4, 2.3]])  # mean ends at 2.25


@pytest.mark.parametrize(
    ("curve", "steps"),
    [
        ([2.9, 2.7, 2.6, 2.5, 2.40], (1000, 700)),  # it takes 1,000 steps for what took 700
        ([2.8, 2.4, 2.3, 2.2, 2.10], (700, 1000)),
        ([2.8, 2.6, 2.4, 2.3, 2.25], (1000, 1000)),
        ([3.0, 3.0, 3.0, 3.0, 2.90], None),  # the baseline was better at its first evaluation
        ([2.2, 2.1, 2.1, 2.1, 2.10], None),
    ],
)
def test_a_multiplier_compares_steps_at_equal_loss(
    curve: list[float], steps: tuple[float, float] | None
) -> None:
    found = multiplier(mean_curve(arm("arm", [curve]).finished), mean_curve(BASE.finished))
    if steps is None:
        assert found is None
        return
    assert found is not None
    assert (found.arm, found.baseline) == (pytest.approx(steps[0]), pytest.approx(steps[1]))
    assert found.times == pytest.approx(steps[0] / steps[1])


def test_the_interval_of_a_multiplier_holds_the_truth_19_times_of_20() -> None:
    """Curves fall by 0.1 in 200 steps; the baseline ends 0.05 higher, where the arm was after 900 steps."""
    rng, hits, times = Random(0), 0, 300
    shape = [0.4, 0.3, 0.2, 0.1, 0.0]
    for _ in range(times):
        pairs = [(rng.gauss(2.05, 0.02), rng.gauss(2.0, 0.02)) for _ in range(8)]
        curves = ([[end + above for above in shape] for end in ends] for ends in zip(*pairs))
        base, one = (arm(name, own) for name, own in zip(("base", "arm"), curves))
        found = spread(one, base, 1)
        hits += found is not None and found[0] <= 0.9 <= found[1]
    assert 0.91 < hits / times < 0.985


def test_without_common_seeds_a_multiplier_has_no_interval() -> None:
    one, other = (arm(name, [[2.8, 2.6, 2.4, 2.3, 2.2]] * 2) for name in ("one", "other"))
    assert spread(one, other, 1) == (pytest.approx(1), pytest.approx(1))
    assert spread(one, replace(other, runs=other.runs[:1]), 1) is None


def test_steps_of_other_lengths_have_no_multiplier(bench: Path) -> None:
    """200 steps of 2 sequences are as many tokens as 100 steps of 4, and other steps."""
    steps, size = "trainer.num_steps", "trainer.batch_size"
    means = {200: 2.2, 100: 2.3}
    one, other = {steps: 200, size: 2}, {steps: 100, size: 4}
    made = heads(arms=[one, other], loss=noisy(means, key=steps), seeds=[0, 1, 2], ablation=None)
    lock = lock_of(bench, made)
    assert [row["word"] for row in lock["table"]] == ["baseline", "worse"]
    assert len({row["tokens"] for row in lock["table"]}) == 1
    assert lock["multipliers"] == {}


def test_a_baseline_without_results_has_a_page(bench: Path, tmp_path: Path) -> None:
    losses = noisy({1: 2.32, 4: 2.23, 16: 2.35})
    made = heads(
        arms=[{HEADS: n} for n in (1, 4, 16)],
        loss=lambda arm, seed: "failed" if arm[HEADS] == 4 else losses(arm, seed),
        seeds=[0, 1],
    )
    lock = lock_of(bench, made)
    draw(lock, tmp_path)
    assert {row["word"] for row in lock["table"]} == {"not ranked", "baseline not ranked"}
    assert "2 of the 6 runs have no result" in page_of(lock)


def slope(falls: Sequence[float], last_rate: float = 0.01) -> str:
    """What is said of an arm whose runs fell by this much over the last fifth of their steps."""
    curves = [[2.5, 2.4, 2.3, 2.2 + fall, 2.2] for fall in falls]
    one = arm("arm", curves, last_rate)
    return words.flattened({"flattened": flattened([one], one), "ablation": {"matters": 0.01}})


def test_flat_is_what_an_interval_shows() -> None:
    """A mean fall of 0.004 is below what matters; with runs that fell by 0 and by 0.02 it shows nothing."""
    assert slope([0.003, 0.004, 0.005, 0.004]).endswith(
        "the intervals of all arms are within 0.01, what matters: flat."
    )
    assert "is undecided" in slope([0.0, 0.02, -0.01, 0.006])
    assert slope([0.03, 0.031, 0.032]).endswith("beyond 0.01, what matters: not flat.")
    assert "Over the last 20 % of the steps" in slope([0.004, 0.005])


def test_nothing_is_flat_by_a_learning_rate_that_ends_at_zero() -> None:
    said = slope([0.003, 0.004, 0.005, 0.004], last_rate=0.0)
    assert said.startswith("This sweep cannot say.")
    assert "0.00" not in said


def test_the_part_of_the_steps_is_the_one_that_was_measured() -> None:
    """Evaluations every 250 of 1,000 steps know nothing of the last fifth alone."""
    logged = [{"step": s, "val/loss": 2.5 - s / 1e6, "lr": 0.01} for s in (250, 500, 750, 1000)]
    one = Arm("one", {}, (Run("one", "one", 0, "finished", {}, rows=logged),))
    found = flattened([one], one)
    assert found is not None
    assert found["share"] == 0.25


def test_samples_are_memorised_or_held_out_or_novel() -> None:
    texts = DOCUMENTS.split()
    splits = Splits(texts, OURS_ALONE)
    parts = splits.sets(CONFIG)
    assert parts is not None
    train, held_out = parts
    assert train | held_out == set(texts)
    drawn = (*sorted(train)[:3], *sorted(held_out)[:1], "zz", "anna anna", "")
    runs = tuple(
        Run(f"one {seed}", "one", seed, "finished", {}, config=CONFIG, samples=drawn)
        for seed in (1, 0)
    )
    found = sampled(Arm("one", {}, runs), splits)
    assert found is not None
    counts = {key: found[key] for key in ("seed", "drawn", "memorised", "held_out", "novel")}
    assert counts == {"seed": 0, "drawn": 14, "memorised": 6, "held_out": 2, "novel": 6}
    unknown = sampled(Arm("one", {}, runs), Splits(None, OURS_ALONE))
    assert unknown is not None
    assert unknown["novel"] is None


def kept(name: str, shift: float, targets: str = "same") -> Arm:
    """An arm of four seeds that kept the nats of fifty documents."""
    draw = np.random.default_rng(1)
    tokens = [int(n) for n in draw.integers(2, 12, 50)]
    runs = []
    for seed in range(4):
        noise = np.random.default_rng([seed, len(name)]).normal(0, 0.05, 50)
        nats = [2.3 * n + shift * n + e for n, e in zip(tokens, noise)]
        held_out = HeldOut(nats, tokens, targets)
        metrics = {"test/loss": sum(nats) / sum(tokens)}
        runs.append(Run("", name, seed, "finished", {}, metrics=metrics, held_out=held_out))
    return Arm(name, {}, tuple(runs), "test/loss")


def test_a_difference_over_documents_is_that_of_the_losses() -> None:
    ours, base = kept("ours", 0.02), kept("the base", 0.0)
    found = crossed(ours, base, 1)
    assert found is not None
    gaps = [ours.losses()[seed] - base.losses()[seed] for seed in range(4)]
    assert found.mean == pytest.approx(statistics.fmean(gaps), abs=1e-4)
    assert (found.seeds, found.documents) == (4, 50)
    assert found.low < 0.02 < found.high
    wider = crossed(ours, base, 5)
    assert wider is not None
    assert wider.high - wider.low > found.high - found.low
    alone = np.random.default_rng(0).normal(size=(4, 50))
    assert over_seeds_and_documents(alone, 5).high > over_seeds_and_documents(alone).high


def test_other_documents_are_not_subtracted() -> None:
    assert crossed(kept("ours", 0.02, "other"), kept("the base", 0.0), 1) is None


def test_runs_are_judged_by_the_same_tokens_or_not_compared(bench: Path) -> None:
    """A longer block cuts none of these documents; another split has others."""
    splits = Splits(DOCUMENTS.split(), OURS_ALONE)
    longer: dict[str, Any] = json.loads(json.dumps(CONFIG))
    longer["model"]["block_size"] = 32
    other: dict[str, Any] = json.loads(json.dumps(CONFIG))
    other["data"]["split_seed"] = 1
    usual = splits.judged_by(CONFIG, "val/loss")
    assert splits.judged_by(longer, "val/loss") == usual
    assert splits.judged_by(other, "val/loss") != usual
    arms = [{"data.split_seed": seed} for seed in (0, 1)]
    made = heads(arms=arms, seeds=[0, 1, 2], loss=lambda *_: 2.2, ablation=None)
    row = rows(lock_of(bench, made))["split_seed=1"]
    assert row["flag"] == "judged by other held-out tokens than the baseline"
    assert row["difference"] is None


def test_a_setting_that_arms_differ_in_is_not_said_of_all(bench: Path) -> None:
    lengths = [{"trainer.num_steps": n} for n in (100, 200)]
    made = heads(arms=lengths, loss=lambda *_: 2.2, seeds=[0, 1], ablation=None)
    page = page_of(lock_of(bench, made))
    assert "- training: 2 sequences a step, Adam, peak learning rate 0.01, schedule Linear" in page


def test_departures_from_a_protocol_are_named(told: tuple[Path, str, Made]) -> None:
    lock = read_lock(told[0] / LOCK)
    assert words.departures(lock) == []
    for run in lock["runs"]:  # an arm may need files of its own
        run["source"] = run["arm"]
    lock["source_files"] = {"n_head=1": {"a": "1", "b": "2"}, "n_head=2": {"a": "1", "c": "3"}}
    assert words.departures(lock) == []
    lock["source_files"]["n_head=2"]["a"] = "4"
    assert words.departures(lock) == ["The runs were trained by more than one version of the code."]
    lock["source_files"] = {}
    assert words.standing(lock).startswith(
        "Confirmatory: the claim was written before any of its 25 runs"
    )
    lock["protocol"]["known_before"] = 3
    lock["protocol"]["content"]["seeds"] = [0, 1, 2, 3, 4, 5]
    lock["runs"][0] |= {"status": "failed", "reason": "failed at step 7"}
    lock["runs"][1]["source"] = "other"
    lock["runs"][2]["fingerprint"] = {"python": "3.13"}
    said = " ".join(words.departures(lock))
    assert "3 of its 25 runs were known before" in said
    assert "1 of the 25 runs has no result" in said
    assert "The protocol has the seeds 0-5; the runs have 0-4." in said
    assert "more than one version of the code" in said
    assert "Trained on another machine, Python or library than the rest: 1 of the runs." in said


def test_of_many_curves_those_farthest_from_the_baseline_are_drawn() -> None:
    names = ["base", *(f"arm {i}" for i in range(9))]
    means = [None, 0.0, -0.9, 0.1, 0.8, None, -0.7, 0.2, 0.6, 0.5]
    table = [
        {"arm": name, "difference": None if mean is None else {"mean": mean}}
        for name, mean in zip(names, means)
    ]
    drawn = farthest(names, {"baseline": "base", "table": table})
    assert drawn == ["base", "arm 1", "arm 3", "arm 5", "arm 6", "arm 7", "arm 8"]
    assert farthest(names[:3], {"baseline": "base", "table": table}) == names[:3]


@pytest.mark.parametrize("count", [5, 12, 30])
def test_no_two_lines_of_a_figure_look_alike(count: int) -> None:
    loss = {"mean": 2.0, "low": 1.9, "high": 2.1}
    points = [{"rate": rate, "loss": loss} for rate in (0.01, 0.02)]
    grids = [{"arm": f"arm {i}", "points": points, "best": 0.01} for i in range(count)]
    (axes,) = Figure().subplots(1, 1, squeeze=False)[0]
    rates(axes, grids, "validation")
    handles, names = axes.get_legend_handles_labels()
    lines = [handle[0] for handle in handles]
    assert names == [grid["arm"] for grid in grids]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == count


def test_shares_of_samples_stand_beside_those_of_a_model_that_remembers_nothing() -> None:
    parts = {"train_documents": 80, "val_documents": 10, "test_documents": 10}
    assert "remembers none writes 4.0 times as many" in by_chance({"data": parts})
    assert by_chance({"data": {"documents": 1}}) == ""


def test_a_beginning_far_above_all_others_is_not_shown_and_a_rise_is() -> None:
    def drawn(*losses: float) -> tuple[float, str]:
        shown = {"low": (2.4, 2.3, 2.25), "lower": (2.42, 2.31, 2.26), "far": losses}
        axes = Figure(layout="constrained").subplots()
        curves(axes, {name: points(*means) for name, means in shown.items()})
        return axes.get_ylim()[1], axes.get_title(loc="right")

    def points(*means: float) -> list[dict[str, Any]]:
        found = [{"mean": mean, "low": None, "high": None} for mean in means]
        return [{"step": step} | each for step, each in enumerate(found)]

    top, told = drawn(4.5, 2.4, 2.3)
    assert 2.42 < top < 3
    assert told == f"beginning not shown, above {top:.2f}: far"
    for rising in ((2.6, 3.0, 4.5), (4.5, 2.4, 4.4)):
        top, told = drawn(*rising)
        assert (top > 4.5, told) == (True, "")
