"""Weights kept beside the trained ones: the best evaluation's, and a moving average."""

from pathlib import Path
from typing import Any

import pytest

from microgpt.core.check import BadValue
from microgpt.core.engine.base import Engine
from microgpt.core.events import Checkpointed, Event, Metrics, Stepped
from microgpt.core.optim.adam import Adam
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import read_checkpoint, write_checkpoint
from microgpt.vector.engine import VectorEngine
from tests.engines import ENGINES
from tests.models import ADAM, events_of, trainer_of

# A rate at which the validation loss soon rises again.
RISING: dict[str, Any] = {
    "documents": ["ada", "dan", "gala", "nell", "lea", "dag", "nan", "elena", "lana", "deg"],
    "val_fraction": 0.3,
    "num_steps": 40,
    "eval_every": 2,
    "eval_documents": 9,
    "checkpoint_every": 2,
    "test_fraction": 0.2,
}


def trainer(engine: Engine, **changes: Any) -> Trainer:
    optimizer = Adam(**ADAM | {"lr": 0.05})
    return trainer_of(engine, optimizer=optimizer, **RISING | changes)


def rows(events: list[Event]) -> list[Metrics]:
    return [e.metrics for e in events if isinstance(e, Stepped)]


def states(events: list[Event]) -> dict[int, Checkpointed]:
    return {e.step: e for e in events if isinstance(e, Checkpointed)}


def test_patience_ends_the_run_with_the_weights_of_the_best_evaluation() -> None:
    plain = events_of(trainer(VectorEngine()))
    losses = {i + 1: row["val/loss"] for i, row in enumerate(rows(plain)) if "val/loss" in row}
    best = min(losses, key=lambda step: losses[step])
    ended = trainer(VectorEngine(), patience=8)
    events = events_of(ended)
    assert best + 8 < 40, "the validation loss falls to the end: there is nothing to test"
    assert ended.step == len(rows(events)) == best + 8
    assert ended.engine.flat(ended.weights) == states(plain)[best].weights
    assert "test/loss" in rows(events)[-1]
    assert rows(events)[-1]["val/loss"] == losses[best]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_average_is_the_mean_of_the_weights_and_then_forgets(engine: str) -> None:
    run = trainer(ENGINES[engine](), average=0.75, num_steps=6, checkpoint_every=1)
    events = events_of(run)
    by_step = states(events)
    for name, flat in run.engine.flat(run.averaged.weights).items():  # type: ignore[union-attr]
        first = [by_step[step].weights[name] for step in (1, 2, 3, 4)]
        expected = [sum(numbers) / 4 for numbers in zip(*first)]
        for step in (5, 6):
            new = by_step[step].weights[name]
            expected = [0.75 * old + 0.25 * w for old, w in zip(expected, new)]
        assert flat == pytest.approx(expected, rel=1e-9, abs=1e-12)
    last = rows(events)[-1]
    assert {"val/average_loss", "val/average_bpc", "test/average_loss"} <= last.keys()
    assert last["val/average_loss"] != last["val/loss"]


def test_both_go_on_after_a_resume(tmp_path: Path) -> None:
    kept = {"patience": 8, "average": 0.9}
    whole = events_of(trainer(VectorEngine(), **kept))
    for step, state in states(whole).items():
        write_checkpoint(tmp_path / "state", state)
        resumed = trainer(VectorEngine(), **kept)
        resumed.restore(read_checkpoint(tmp_path / "state"))
        rest = events_of(resumed)
        told = [{k: v for k, v in row.items() if "cost" not in k} for row in rows(rest)]
        assert told == [
            {k: v for k, v in row.items() if "cost" not in k} for row in rows(whole)[step:]
        ]
        assert resumed.engine.flat(resumed.weights) == list(states(whole).values())[-1].weights


def test_patience_begins_where_a_run_that_kept_nothing_goes_on() -> None:
    before = states(events_of(trainer(VectorEngine(), num_steps=20)))[20]
    run = trainer(VectorEngine(), patience=8)
    run.restore(before)
    events_of(run)
    assert run.step >= 28


@pytest.mark.parametrize(
    "changes",
    [
        {"patience": 8, "eval_every": 0},
        {"patience": 8, "val_fraction": 0.0},
        {"patience": 8, "eval_documents": 0},
        {"patience": 3},
        {"patience": 0},
        {"average": 1.0},
        {"train_length": 9},
        {"train_length": 0},
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadValue, match=f"trainer.{next(iter(changes))}="):
        trainer(VectorEngine(), **changes)


def test_a_length_for_training_cuts_the_training_sequences_alone() -> None:
    short = trainer(VectorEngine(), train_length=2, num_steps=2, batch_size=3)
    told = [e for e in events_of(short) if isinstance(e, Stepped)]
    assert [e.tokens for e in told] == [6, 6]
    whole = trainer(VectorEngine(), num_steps=2, batch_size=3)
    short.engine.load(short.weights, whole.engine.flat(whole.weights))
    assert short._evaluate("val/", short.weights, {}) == whole._evaluate("val/", whole.weights, {})
