"""Update rules of PyTorch, over twenty steps on given gradients."""

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.oracle.case import Case, Rows, numbers

STEPS, KEPT = 20, (1, 2, 5, 20)
PEAK = 0.05
SHAPES = {"tall": (4, 2), "wide": (2, 3), "row": (1, 3)}
ROLES = {"tall": "matrix", "wide": "residual_out", "row": "gain"}  # what each stands for
HIDDEN = ("tall", "wide")
Rule = Callable[[dict[str, Tensor]], Iterable[torch.optim.Optimizer]]


def rule(make: Rule, **settings: Any) -> Case:
    """Weights after some of the steps; the rate falls linearly from `PEAK`."""
    rng = Random(11)
    start = {name: numbers(rng, *shape) for name, shape in SHAPES.items()}
    given = [{name: numbers(rng, *shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    rates = [PEAK * (1 - step / STEPS) for step in range(STEPS)]
    weights = {name: torch.tensor(rows, requires_grad=True) for name, rows in start.items()}
    optimizers = list(make(weights))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["share"] = group["lr"] / PEAK
    after: dict[str, dict[str, Rows]] = {}
    for step, (gradients, rate) in enumerate(zip(given, rates), 1):
        for name, rows in gradients.items():
            weights[name].grad = torch.tensor(rows)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.step()
        if step in KEPT:
            after[str(step)] = {name: w.tolist() for name, w in weights.items()}
    return {
        "kind": "rule",
        "settings": {"lr": PEAK, **settings},
        "roles": ROLES,
        "start": start,
        "rates": rates,
        "gradients": given,
        "after": after,
    }


BETAS = {"beta1": 0.85, "beta2": 0.99, "eps": 1e-8}
ADAM = {"betas": (0.85, 0.99), "eps": 1e-8}


def adam() -> Case:
    return rule(lambda w: [torch.optim.Adam(w.values(), lr=PEAK, **ADAM)], **BETAS)


def adam_half_life(half_life: float, tokens: float) -> Case:
    """Adam, whose beta2 halves a share in so many tokens, at so many a step."""
    betas = (0.85, 0.5 ** (tokens / half_life))
    settings = {"beta1": 0.85, "half_life": half_life, "eps": 1e-8, "tokens": tokens}
    return rule(lambda w: [torch.optim.Adam(w.values(), lr=PEAK, betas=betas)], **settings)


def adamw(decayed: str, decay: float = 0.1) -> Case:
    """All decay, or the two matrices alone."""

    def make(w: dict[str, Tensor]) -> list[torch.optim.Optimizer]:
        groups = [
            {"params": [w[name] for name in HIDDEN], "weight_decay": decay},
            {"params": [w["row"]], "weight_decay": decay if decayed == "all" else 0.0},
        ]
        return [torch.optim.AdamW(groups, lr=PEAK, **ADAM)]

    return rule(make, **BETAS, weight_decay=decay, decayed=decayed)


def sgd(momentum: float, nesterov: bool = False) -> Case:
    def make(w: dict[str, Tensor]) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(w.values(), lr=PEAK, momentum=momentum, nesterov=nesterov)]

    return rule(make, momentum=momentum)


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2, line by line: PyTorch has none."""

    def __init__(self, weights: Iterable[Tensor], **defaults: float) -> None:
        super().__init__(weights, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, b1, b2 = group["lr"], group["beta1"], group["beta2"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = b1 * m + (1 - b1) * p.grad
                p.sub_(lr * (c.sign() + group["weight_decay"] * p))
                self.state[p]["m"] = b2 * m + (1 - b2) * p.grad


def lion() -> Case:
    settings = {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    return rule(lambda w: [Lion(w.values(), lr=PEAK, **settings)], **settings)


def muon(bfloat16: bool) -> Case:
    """Muon for the two matrices, Adam for the row; with PyTorch's rounding to bfloat16, or without."""
    settings = {"momentum": 0.95, "ns_steps": 5, "weight_decay": 0.1, "adam_lr": 0.02}

    def make(w: dict[str, Tensor]) -> list[torch.optim.Optimizer]:
        hidden = [w[name] for name in HIDDEN]
        own: Mapping[str, Any] = {key: settings[key] for key in ("momentum", "weight_decay")}
        return [
            torch.optim.Muon(
                hidden,
                lr=PEAK,
                nesterov=True,
                ns_steps=5,
                ns_coefficients=(3.4445, -4.775, 2.0315),
                adjust_lr_fn="original",
                **own,
            ),
            torch.optim.Adam([w["row"]], lr=settings["adam_lr"], **ADAM),
        ]

    if bfloat16:
        return rule(make, **settings, **BETAS)
    with mock.patch.object(Tensor, "bfloat16", Tensor.clone):
        return rule(make, **settings, **BETAS)
