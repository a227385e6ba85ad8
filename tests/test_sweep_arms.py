"""What a sweep says of its arms when it ends."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from microgpt.ablation.records.store import Arm as Reported
from microgpt.ablation.records.store import client_of, read_sweep
from microgpt.ablation.report.analysis import analyse
from microgpt.protocol.arms import Planned, one_arm
from microgpt.sweep.arms import MOST, Arm, arms_of, table_of
from microgpt.tracking.find import find_parent
from microgpt.trust import OURS_ALONE
from tests.sweeps import Made, address

BASE = {"model.n_head": 4}


def made(
    heads: tuple[int, ...], seeds: int, loss: Callable[[int, int], float | None]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The jobs of a sweep over heads and seeds, and the losses of those that finished."""
    jobs = [
        {
            "run": f"{n}/{seed}",
            "arm": f"n_head={n}",
            "seed": seed,
            "differs": {"model.n_head": str(n), "seed": str(seed)},
        }
        for n, seed in product(heads, range(seeds))
    ]
    found = {f"{n}/{seed}": loss(n, seed) for n, seed in product(heads, range(seeds))}
    return jobs, {run: value for run, value in found.items() if value is not None}


def shown(arms: list[Arm], width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(table_of(arms))
    return captured.get().splitlines()


def test_the_figures_are_those_of_the_report(told: Any, bench: Any) -> None:
    """Means, differences and both intervals of a sweep whose report is there."""
    sweep_of: Made = told[2]
    client, store = client_of(address(bench), bench)
    sweep = read_sweep(client, find_parent(client, sweep_of.id, store), OURS_ALONE)
    jobs = [
        {"run": run.name, "arm": run.arm, "seed": run.seed, "differs": dict(run.differs)}
        for run in sweep.runs
    ]
    losses = {run.name: run.metrics["val/loss"] for run in sweep.runs}
    ours = {arm.name: arm for arm in arms_of(jobs, losses, BASE)}
    for row in analyse(sweep, None)["table"]:
        arm = ours[row["arm"]]
        assert (arm.loss.n, arm.jobs) == (row["finished"], row["finished"])
        for found, said in ((arm.loss, row["loss"]), (arm.difference, row["difference"])):
            assert (found is None) == (said is None)
            if found is not None:
                assert [found.mean, found.low, found.high] == pytest.approx(
                    [said["mean"], said["low"], said["high"]], abs=1e-6
                )
    assert isinstance(sweep.arms[0], Reported)


def test_the_lowest_mean_comes_first_and_the_baseline_has_no_difference() -> None:
    jobs, losses = made((1, 4, 8), 3, lambda n, seed: 2 + 1 / n + seed / 100)
    lines = shown(arms_of(jobs, losses, BASE))
    assert [line.split()[0] for line in lines] == ["arm", "n_head=8", "n_head=4", "n_head=1"]
    assert lines[1].split()[1:3] == ["3", "2.1350"]
    assert "-0.1250" in lines[1]
    assert "baseline" in lines[2]


def test_without_a_baseline_there_are_means_alone() -> None:
    jobs, losses = made((1, 4), 3, lambda n, seed: 2 + 1 / n + seed / 100)
    assert all(arm.difference is None for arm in arms_of(jobs, losses, None))
    assert "difference" not in shown(arms_of(jobs, losses, None))[0]
    both = arms_of(jobs, losses, {"model.n_embd": 16})  # fits no arm
    assert not any(arm.is_baseline for arm in both)


def test_an_arm_that_lost_a_run_is_compared_with_nothing_and_comes_last() -> None:
    def loss(n: int, seed: int) -> float | None:
        return None if (n, seed) == (8, 1) else 2 + 1 / n + seed / 100

    arms = arms_of(*made((1, 4, 8), 3, loss), BASE)
    assert [arm.name for arm in arms] == ["n_head=4", "n_head=1", "n_head=8"]
    assert (arms[-1].whole, arms[-1].difference) == (False, None)
    assert "2 of 3" in shown(arms)[-1]


def test_one_run_an_arm_has_no_interval_and_no_runs_have_no_arms() -> None:
    jobs, losses = made((1, 4), 1, lambda n, seed: 2 + 1 / n)
    assert "[" not in "".join(shown(arms_of(jobs, losses, BASE)))
    assert arms_of(jobs, {}, BASE) == []


@pytest.mark.parametrize("width", [80, 200])
def test_figures_are_whole_at_80_columns(width: int) -> None:
    jobs, losses = made(tuple(range(1, MOST + 5)), 3, lambda n, seed: 2 + 1 / n + seed / 100)
    named: list[Mapping[str, Any]] = [
        job | {"arm": f"{job['arm']} optimizer=adamw"} for job in jobs
    ]
    lines = shown(arms_of(named, losses, BASE), width)
    assert max(map(len, lines)) <= width
    assert lines[-1].split() == ["...", "4", "more"]
    rows = lines[1:-1]
    assert len(rows) == MOST
    assert all(row.count("[") == row.count("]") == 2 for row in rows)


def test_an_arm_that_has_just_the_values_of_the_baseline_is_it() -> None:
    """Another arm has these values too, and more: `{n_head: 4}` beside `{n_head: 4, lr: 0.1}`."""
    differs: list[dict[str, str]] = [{"model.n_head": "4"}, {"model.n_head": "4", "lr": "0.1"}]
    jobs = [
        {"run": f"{i}/{seed}", "arm": str(i), "seed": seed, "differs": own | {"seed": str(seed)}}
        for i, own in enumerate(differs)
        for seed in range(3)
    ]
    found = arms_of(jobs, {str(job["run"]): 2.0 for job in jobs}, BASE)
    assert [arm.name for arm in found if arm.is_baseline] == ["0"]
    planned = [Planned(str(i), own, [0, 1]) for i, own in enumerate(differs)]
    assert one_arm(planned, BASE, "ablation.baseline").name == "0"
