"""Schedules and update rules, against the formulas of the papers."""

import math
from collections.abc import Iterator

import pytest

from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adam_original import AdamOriginal
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.sgd import SGD
from microgpt.core.schedule.constant import Constant
from microgpt.core.schedule.cosine import Cosine
from microgpt.core.schedule.linear import Linear


def test_schedules_begin_at_the_peak_and_decay_as_they_say() -> None:
    rates = {
        "linear": [Linear(warmup_steps=0)(0.5, step, 10) for step in range(10)],
        "cosine": [Cosine(warmup_steps=0, final=0.1)(0.5, step, 10) for step in range(11)],
        "constant": [Constant(warmup_steps=0)(0.5, step, 10) for step in range(10)],
    }
    assert rates["linear"] == [0.5 * (1 - step / 10) for step in range(10)]
    assert rates["cosine"][0] == 0.5
    assert math.isclose(rates["cosine"][5], 0.5 * 0.55)
    assert math.isclose(rates["cosine"][10], 0.05)
    assert rates["constant"] == [0.5] * 10


def test_warm_up_rises_to_the_peak() -> None:
    schedule = Linear(warmup_steps=4)
    assert [schedule(1.0, step, 8) for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]


def adam_by_the_book(p: float, grads: list[float], decay: float = 0.0) -> Iterator[float]:
    m = v = 0.0
    for t, g in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p -= 0.1 * (decay * p)
        p -= 0.1 * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.99**t)) + 1e-8)
        yield p


def sgd_by_the_book(p: float, grads: list[float]) -> Iterator[float]:
    m = 0.0
    for g in grads:
        m = 0.9 * m + g
        p -= 0.1 * m
        yield p


BETAS = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


@pytest.mark.parametrize(
    ("optimizer", "book"),
    [
        (Adam(**BETAS), adam_by_the_book),
        (AdamOriginal(**BETAS), adam_by_the_book),
        (AdamW(**BETAS, weight_decay=0.2), lambda p, grads: adam_by_the_book(p, grads, 0.2)),
        (SGD(lr=0.1, momentum=0.9), sgd_by_the_book),
    ],
    ids=lambda value: type(value).__name__,
)
def test_update_rules_by_the_book(optimizer: Optimizer, book: object) -> None:
    grads = [0.3, -1.0, 0.7, 2.0, -0.1]
    optimizer.prepare({"w": (1, 1)}, {"w": 1.0})
    value, ours = [0.5], []
    for g in grads:
        value = optimizer.step({"w": value}, {"w": [g]}, 0.1)["w"]
        ours.append(value[0])
    assert ours == pytest.approx(list(book(0.5, grads)), rel=1e-12)  # type: ignore[operator]
