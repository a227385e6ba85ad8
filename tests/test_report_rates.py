"""Reports of grids of learning rates, and of arms that are tuned by one."""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.report.report import report
from tests.sweeps import (
    BEST,
    CONFIG,
    FILES,
    RATE,
    SIZES,
    WIDTH,
    WIDTHS,
    Made,
    address,
    asked,
    lock_of,
    log_sweep,
    noisy,
    page_of,
    rows,
    tuned_lock,
    tuning,
    width,
)

RATES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
VALLEY = {0.001: 2.4, 0.002: 2.31, 0.005: 2.235, 0.01: 2.22, 0.02: 2.23, 0.05: 2.3, 0.1: 2.45}


def rates(best: float | None = None, **changes: Any) -> Made:
    """A grid of learning rates with its valley at 0.01, or one that falls to an end."""
    means = (
        VALLEY if best is None else {rate: 2.2 + abs(math.log(rate / best)) / 9 for rate in RATES}
    )
    known: dict[str, Any] = {
        "arms": [{RATE: rate} for rate in RATES],
        "loss": noisy(means, key=RATE),
        "name": "learning_rate",
        "experiment": "learning_rate",
        "ablation": asked(baseline={RATE: 0.01}, axis=RATE),
    }
    return Made(**known | changes)


def test_a_grid_of_learning_rates(bench: Path) -> None:
    lock = lock_of(bench, rates())
    (grid,) = lock["rates"]
    assert (grid["best"], grid["flag"]) == (0.01, None)
    assert lock["verdict"] == "supported"
    assert "(rates.png)" in page_of(lock)


@pytest.mark.parametrize(("best", "end"), [(0.001, "lowest"), (0.1, "highest")])
def test_a_best_rate_at_the_grids_edge_refutes_an_optimum(
    bench: Path, best: float, end: str
) -> None:
    """The rates themselves can be compared; that the best lies at the edge is said beside."""
    lock = lock_of(bench, rates(best))
    assert {row["flag"] for row in lock["table"]} == {None}
    assert lock["rates"][0]["flag"] == f"best learning rate {best:g} is its grid's {end}"
    assert lock["verdict"] == "refuted"
    assert f"is its grid's {end}" in page_of(lock)


def test_an_arm_whose_best_rate_is_at_the_grids_edge_is_not_ranked(bench: Path) -> None:
    lock = lock_of(bench, tuning({32: 0.04}))
    for row in lock["table"]:
        wide = row["differs"][WIDTH] == "32"
        assert (row["word"] == "not ranked") == wide
        assert row["flag"] == ("best learning rate 0.04 is its grid's highest" if wide else None)


def test_a_rate_that_diverged_is_never_the_best_but_bounds_the_grid(bench: Path) -> None:
    falling = noisy({rate: 2.2 + abs(math.log(rate / 0.1)) / 9 for rate in RATES}, key=RATE)

    def loss(arm: Any, seed: int) -> float | str:
        return "failed" if arm[RATE] == 0.1 and seed == 0 else falling(arm, seed)

    (grid,) = lock_of(bench, rates(loss=loss))["rates"]
    assert (grid["best"], grid["flag"]) == (0.05, None)
    assert grid["points"][-1] == {"rate": 0.1, "loss": None}


def test_a_power_law_over_arms_at_their_tuned_rates(bench: Path) -> None:
    lock = tuned_lock(bench, tuning())
    assert {row["flag"] for row in lock["table"]} == {None}
    assert [grid["best"] for grid in lock["tuning"]["grids"]] == list(BEST.values())
    assert lock["tuning"]["seeds"] == [100, 101]
    found = lock["fit"]["exponent"]
    x = [math.log(size) for size in SIZES.values()]
    y = [math.log(loss) for loss in WIDTHS.values()]
    expected = -statistics.linear_regression(x, y).slope
    assert found["low"] < expected < found["high"]
    assert lock["fit"]["bend"]["word"] == "flattens"
    assert len(lock["fit"]["local"]) == 2
    assert lock["verdict"] == "supported"
    page = page_of(lock)
    assert "(fit.png)" in page
    assert f"train -m experiment={lock['tuning']['experiment']}" in page
    assert "(rates.png)" in page
    assert f"parameters^-{found['mean']:.4f}" in page
    assert "How the learning rates were chosen" in page


@pytest.mark.parametrize(
    ("tuned", "arm", "flag"),
    [
        (None, "n_embd=8 lr=0.02", "not tuned: no sweep of TUNING in the store"),
        ({"best": {16: 0.02}}, "n_embd=16 lr=0.01", "run at learning rate 0.01, but 0.02 is the best"),
        ({"best": {32: 0.005}}, "n_embd=32 lr=0.01", "best learning rate 0.005 is its grid's lowest"),
        ({"seeds": (4, 100)}, "n_embd=8 lr=0.02", "tuned on seeds that it is judged by: 4"),
        (
            {"arms": [{WIDTH: w, RATE: r} for w in (8, 16) for r in (0.005, 0.01, 0.02)],
             "ablation": asked(baseline={WIDTH: 8, RATE: 0.01}, axis=RATE, claim=None)},
            "n_embd=32 lr=0.01",
            "not tuned: TUNING has no such arm",
        ),
    ],
)  # fmt: skip
def test_an_arm_that_is_not_at_its_own_rate_is_not_ranked(
    bench: Path, tuned: dict[str, Any] | None, arm: str, flag: str
) -> None:
    row = rows(tuned_lock(bench, None if tuned is None else tuning(**tuned)))[arm]
    assert (row["word"], row["difference"]) == ("not ranked", None)
    assert re.sub(r"tuning_\d+", "TUNING", row["flag"]) == flag


def test_what_else_differs_from_the_tuning_is_said(bench: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["trainer"]["num_steps"] = 150
    page = page_of(tuned_lock(bench, tuning(config=config)))
    assert "departs from this sweep in: `trainer.num_steps` 150 there, 200 here" in page


def test_the_tuning_alone_has_a_report_and_no_verdict(bench: Path) -> None:
    lock = lock_of(bench, tuning())
    assert lock["verdict"] is None
    assert "**Verdict: none, since nothing was claimed.**" in page_of(lock)


def test_every_figure_that_applies(bench: Path, tmp_path: Path) -> None:
    name = "width_tuning_drawn"
    log_sweep(bench, tuning(experiment=name))
    made = width(ablation=dict(width().ablation or {}) | {"tuning": name})
    log_sweep(bench, made)
    folder = report(made.id, address(bench), bench, tmp_path)
    drawn = {f"{name}.{kind}" for name in ("fit", "rates") for kind in ("png", "svg")}
    assert {file.name for file in folder.iterdir()} == FILES | drawn
