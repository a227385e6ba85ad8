"""A lock's numbers are those that its runs give, whatever was asked; a change to any is found."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.recount import miscounted, misquoted
from microgpt.ablation.report.readme import render_readme
from tests.sweeps import DOCUMENTS, Made, heads, lock_of, tuned_lock, tuning

TEXTS = DOCUMENTS.split("\n")[:-1]


def failing(made: Made) -> Made:
    """The same, with a run that failed in each of two arms."""
    lost = {(1, 0), (8, 3)}
    return replace(
        made,
        loss=lambda arm, seed: (
            "failed" if (arm["model.n_head"], seed) in lost else made.loss(arm, seed)
        ),
    )


LOCKS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "heads": lambda bench: lock_of(bench, heads()),
    "heads, of which some failed": lambda bench: lock_of(bench, failing(heads(name="failing"))),
    "rates": lambda bench: lock_of(bench, tuning()),
    "width, tuned": lambda bench: tuned_lock(bench, tuning()),
    "width, tuned at an edge": lambda bench: tuned_lock(bench, tuning({32: 0.04})),
    "width, not tuned": lambda bench: tuned_lock(bench, None),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_what_its_runs_give(bench: Path, tmp_path: Path, name: str) -> None:
    lock = json.loads(json.dumps(LOCKS[name](bench)))
    assert miscounted(lock, TEXTS) is None
    page = tmp_path / "README.md"
    page.write_text(render_readme(lock, [{"arm": "all", "seconds": 1.0, "rate": 2.0}]))
    assert misquoted(lock, page) is None


def test_each_number_of_the_table_counts(bench: Path) -> None:
    lock = json.loads(json.dumps(tuned_lock(bench, tuning())))
    found = 0
    for i, row in enumerate(lock["table"]):
        for key in ("loss", "bpc", "difference"):
            for name in row[key] or {}:
                changed = copy.deepcopy(lock)
                changed["table"][i][key][name] = 0.123
                difference = miscounted(changed, TEXTS)
                assert difference is not None
                place = f"in table[{row['arm']}].{key}.{name}"
                assert difference.verdict.endswith(place)
                found += 1
    assert found > 20
    for key in ("verdict", "because", "baseline"):
        difference = miscounted({**lock, key: "other"}, TEXTS)
        assert difference is not None
        assert difference.verdict == f"the lock contradicts itself in {key}"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("curves", "n_head=1", 0, "mean"), 2.0),
        (("multipliers", "n_head=1", "times"), 1.5),
        (("flattened", "fell", "n_head=4", "high"), 0.0),
        (("samples", "n_head=8", "novel"), 5),
    ],
)
def test_what_stands_beside_the_table_counts(
    bench: Path, place: tuple[str | int, ...], value: float
) -> None:
    lock = json.loads(json.dumps(lock_of(bench, heads())))
    assert miscounted(lock, TEXTS) is None
    *parents, last = place
    inside = lock
    for key in parents:
        inside = inside[key]
    assert inside[last] != value
    inside[last] = value
    difference = miscounted(lock, TEXTS)
    assert difference is not None
    assert f"in {place[0]}" in difference.verdict


def test_a_loss_of_a_run_counts(bench: Path) -> None:
    lock = json.loads(json.dumps(lock_of(bench, heads(name="changed"))))
    lock["runs"][7]["metrics"]["val/loss"] += 1e-4
    difference = miscounted(lock, TEXTS)
    assert difference is not None
    assert lock["runs"][7]["arm"] in difference.verdict
