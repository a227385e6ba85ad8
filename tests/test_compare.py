"""Runs side by side: what differs, and from which step on."""

import json
from pathlib import Path

import pytest

from microgpt.ablation.compare import different, partings
from microgpt.ablation.fork import fork
from microgpt.ablation.statistics.anytime import anytime
from microgpt.run.folder import all_runs
from tests.command import Within
from tests.running import train_here
from tests.sweeps import Made, asked, heads, log_sweep, noisy

STEPS = ["trainer.num_steps=12", "trainer.checkpoint_every=5"]


@pytest.mark.slow
def test_runs_of_the_store(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _, run = train_here(outputs, *STEPS)
    assert fork("here", 7, ["schedule=constant"], None, outputs) == 0
    (new,) = [other for other in all_runs(outputs) if other.path != run.path]
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    monkeypatch.setenv("COLUMNS", "200")
    command = Within(monkeypatch, capfd)
    ended = command("compare", "here", new.mlflow_run_id)
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["schedule", "Linear", "Constant"] in rows
    assert "optimizer.lr" not in ended.out
    loss = [f"{each.metrics()[-1]['val/loss']:.6g}" for each in (run, new)]
    assert ["val/loss", *loss] in rows
    assert ["lr", "8"] in rows
    assert ["train/loss", "9"] in rows  # of the weights that step 8 made
    assert ["val/loss", "10"] in rows
    assert "cost/" not in ended.out
    facts = json.loads(command("compare", "here", new.mlflow_run_id, "--json").out)
    assert facts["differs"]["schedule"] == ["Linear", "Constant"]
    assert facts["figures"]["val/loss"] == [each.metrics()[-1]["val/loss"] for each in (run, new)]
    assert (facts["curves_part"]["lr"], facts["curves_part"]["val/loss"]) == (8, 10)
    ended = command("compare", "here", "here")
    assert "differs: nothing" in ended.out
    assert ["val/loss", "never"] in [line.split() for line in ended.out.splitlines()]
    for words in (["here"], ["here", "nothing"]):
        ended = command("compare", *words)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended.err


def test_what_a_run_has_not_is_a_difference() -> None:
    assert different([{"a": "1", "b": "2"}, {"a": "1"}]) == {"b": ["2", None]}
    assert partings([{1: {"x": [1.0]}, 2: {"x": [2.0]}}, {1: {"x": [1.0]}}]) == {"x": 2}
    assert partings([{1: {"x": [1.0]}}] * 2) == {"x": None}


def test_sweeps_side_by_side(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second with a loss that is lower by 0.01, at one seed more."""
    one = heads(name="one", experiment=None)
    base = one.loss
    lower = heads(
        name="two",
        experiment=None,
        seeds=range(6),
        loss=lambda arm, seed: float(base(arm, seed)) - 0.01,
    )
    for made in (one, lower):
        log_sweep(bench, made)
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(bench))
    command = Within(monkeypatch, capfd)
    ended = command("compare", one.id[:8], lower.id, "--json")
    assert ended.code == 0, ended
    facts = json.loads(ended.out)
    assert [each["id"] for each in facts["sweeps"]] == [one.id, lower.id]
    assert [arm["arm"] for arm in facts["arms"]] == [f"n_head={n}" for n in (4, 8, 2, 1, 16)]
    for arm in facts["arms"]:
        assert arm["difference"] == pytest.approx(-0.01)
        assert arm["low"] <= arm["difference"] <= arm["high"]
    assert facts["differs"]["seeds"] == ["0-4", "0-5"]
    assert {"protocol", "protocol.seeds"} <= facts["differs"].keys()
    assert "protocol.claim" not in facts["differs"]
    ended = command("compare", one.id, lower.id)
    assert "second less first" in ended.out
    assert ended.out.count("-0.0100") >= 5


def of_heads(name: str, stopping: str, seeds: int, sd: float) -> Made:
    section = asked(stopping=stopping, axis=None)
    means = dict.fromkeys((1, 2, 4, 8, 16), 2.3)
    return heads(
        name=name, experiment=None, seeds=range(seeds), ablation=section, loss=noisy(means, sd)
    )


def test_where_seeds_were_added_until_they_were_enough_intervals_hold_at_any_time(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One such sweep of the two is enough; of so few seeds as three there is no interval then."""
    fixed, sequence = of_heads("a", "fixed", 9, 0.004), of_heads("b", "sequential", 9, 0.006)
    short = of_heads("c", "sequential", 3, 0.006)
    for made in (fixed, sequence, short):
        log_sweep(bench, made)
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(bench))
    command = Within(monkeypatch, capfd)
    told = json.loads(command("compare", fixed.id, sequence.id, "--json").out)["arms"]
    rows = {row["arm"]: row for row in told}
    for arm in fixed.arms:
        pairs = [float(sequence.loss(arm, s)) - float(fixed.loss(arm, s)) for s in range(9)]
        right, row = anytime(pairs, comparisons=5), rows[f"n_head={arm['model.n_head']}"]
        assert (row["low"], row["high"]) == pytest.approx((right.low, right.high))
    assert "95 % at any time" in command("compare", sequence.id, fixed.id).out
    told = json.loads(command("compare", fixed.id, short.id, "--json").out)["arms"]
    assert [(row["low"], row["high"]) for row in told] == [(None, None)] * 5
    assert all(row["difference"] for row in told)
