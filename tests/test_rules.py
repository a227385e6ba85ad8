"""Every update rule of conf/optimizer: it finds the minimum of a quadratic, and keeps its invariants."""

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from microgpt.app import config_path
from microgpt.core.engine.shapes import Rows
from microgpt.core.optim.adam_half_life import AdamHalfLife
from microgpt.core.optim.base import Optimizer
from microgpt.core.weight import Role, Weight
from microgpt.vector.engine import VectorEngine

NAMES = sorted(file.stem for file in (config_path() / "optimizer").glob("*.yaml"))
ADAPTIVE = ["adam", "adam_original", "adam_half_life", "adamw", "lion", "muon"]
TARGET = [[0.5, -1.0, 0.25], [2.0, 0.0, -0.75]]
NUM_STEPS = 600


@cache
def config(name: str) -> DictConfig:
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        found: DictConfig = compose("train", [f"optimizer={name}"]).optimizer
        return found


def optimizer(name: str, **changes: Any) -> Optimizer:
    """With the values of its file, but for `changes`; a step has eight tokens."""
    made: Optimizer = instantiate(config(name), **changes)
    made.measure(lambda: 8.0)
    return made


def run(
    rule: Optimizer,
    gradient: Callable[[Rows, int], Rows],
    role: Role = "matrix",
    steps: int = NUM_STEPS,
    start: Rows = TARGET,
) -> Rows:
    """The weight after some steps, at rates that fall linearly to 0."""
    ops = VectorEngine()
    weights = ops.parameters({"w": start})
    rule.prepare(ops, weights, {"w": Weight(len(start), len(start[0]), role)}, {"w": 1.0})
    for step in range(steps):
        rows = gradient(ops.values(weights["w"]), step)
        rule.step(ops, {"w": ops.constant(rows)}, rule.lr * (1 - step / steps), 1.0)
    return ops.values(weights["w"])


def apart(rows: Rows, others: Rows) -> float:
    pairs = [(x, y) for row, other in zip(rows, others) for x, y in zip(row, other)]
    return sum((x - y) ** 2 for x, y in pairs)


@pytest.mark.parametrize("role", ["matrix", "embedding", "gain"])
@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_minimum_of_a_quadratic(name: str, role: Role) -> None:
    """sum(curvature (w - target)^2) / 2, with curvatures from 0.3 to 3."""
    curvature = [[0.3, 1.0, 3.0], [2.0, 0.5, 1.5]]

    def gradient(w: Rows, step: int) -> Rows:
        rows = zip(w, TARGET, curvature)
        return [[c * (x - t) for x, t, c in zip(*row)] for row in rows]

    start = [[0.0] * 3, [0.0] * 3]
    rule = optimizer(name, **{"lion": {"lr": 0.02}, "adamw": {"weight_decay": 0.0}}.get(name, {}))
    found = run(rule, gradient, role, start=start)
    assert apart(found, TARGET) < 1e-3 * apart(start, TARGET)


def noise(factor: float) -> Callable[[Rows, int], Rows]:
    """The same random gradients, times a factor."""

    def gradient(w: Rows, step: int) -> Rows:
        rng = Random(step)
        return [[factor * rng.uniform(-1, 1) for _ in row] for row in w]

    return gradient


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_size_of_the_gradient_does_not_matter(name: str) -> None:
    one, other = (run(optimizer(name), noise(factor), steps=20) for factor in (1.0, 64.0))
    assert apart(one, other) < 1e-10 < apart(one, TARGET)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(ADAPTIVE)))
def test_a_rule_without_a_scale_is_linear_in_the_gradient(name: str) -> None:
    one, two = (run(optimizer(name), noise(factor), steps=20) for factor in (1.0, 2.0))
    doubled = [[2 * x - t for x, t in zip(*rows)] for rows in zip(one, TARGET)]
    assert apart(two, doubled) < 1e-20 < apart(one, TARGET)


def test_momentum_of_zero_is_none() -> None:
    plain = run(optimizer("sgd"), noise(1.0), steps=5)
    for name in ("momentum", "nesterov"):
        assert run(optimizer(name, momentum=0.0, lr=0.3), noise(1.0), steps=5) == plain
        assert run(optimizer(name, momentum=0.5, lr=0.3), noise(1.0), steps=5) != plain


def test_lion_moves_every_number_by_the_rate() -> None:
    (row, other), ((a, b, c), (d, e, f)) = run(optimizer("lion"), noise(1.0), steps=1), TARGET
    moved = [abs(x - y) for x, y in zip((*row, *other), (a, b, c, d, e, f))]
    assert moved == pytest.approx([0.001] * 6)


@pytest.mark.parametrize(
    ("decayed", "roles"),
    [
        ("all", {"embedding", "matrix", "residual_out", "output", "gain", "bias"}),
        ("matrices", {"embedding", "matrix", "residual_out", "output"}),
        ("hidden", {"matrix", "residual_out"}),
    ],
)
def test_weights_without_a_gradient_decay_by_their_roles(decayed: str, roles: set[Role]) -> None:
    every: tuple[Role, ...] = ("embedding", "matrix", "residual_out", "output", "gain", "bias")
    for role in every:
        rule = optimizer("adamw", decayed=decayed, lr=0.5, weight_decay=0.5)
        found = run(rule, lambda w, step: [[0.0] * len(row) for row in w], role, steps=1)
        share = 0.75 if role in roles else 1.0
        assert found == [[share * x for x in row] for row in TARGET], role


def test_a_half_life_in_tokens_is_the_same_memory_at_every_batch_size() -> None:
    betas = []
    for tokens in (1.0, 8.0, 500.0, 1000.0):
        rule = AdamHalfLife(lr=0.01, beta1=0.9, half_life=500.0, eps=1e-8)
        rule.measure(lambda tokens=tokens: tokens)  # type: ignore[misc]
        betas.append(rule.beta2)
    assert betas[1] == pytest.approx(betas[0] ** 8)
    assert betas[2:] == [0.5, 0.25]
