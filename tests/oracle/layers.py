"""Layers and losses in PyTorch, each with the gradients of what goes in."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracle.case import Case, Rows, numbers

T, N = 3, 5
EPS = 1e-5


def layer(function: Callable[..., Tensor], weights: Mapping[str, Rows], **settings: Any) -> Case:
    """`function(x, *weights)`, and the gradients of the sum of its entries times those of `upstream`."""
    rng = Random(3)
    x, upstream = numbers(rng, T, N, 3.0), numbers(rng, T, N)
    inputs = {"x": x, **weights}
    tensors = {name: torch.tensor(rows, requires_grad=True) for name, rows in inputs.items()}
    output = function(*tensors.values())
    (output * torch.tensor(upstream)).sum().backward()
    return {
        "kind": "layer",
        "settings": settings,
        "inputs": inputs,
        "upstream": upstream,
        "output": output.tolist(),
        "gradients": {name: gradient(tensor) for name, tensor in tensors.items()},
    }


def gradient(tensor: Tensor) -> Rows:
    assert tensor.grad is not None
    rows: Rows = tensor.grad.tolist()
    return rows


def rmsnorm() -> Case:
    return layer(lambda x: F.rms_norm(x, (N,), eps=EPS), {}, eps=EPS)


def rmsnorm_gain() -> Case:
    """The gain is a row `[1][n]`."""
    gain = numbers(Random(4), 1, N, 2.0)
    return layer(lambda x, g: F.rms_norm(x, (N,), g[0], EPS), {"gain": gain}, eps=EPS)


def layernorm() -> Case:
    return layer(lambda x: F.layer_norm(x, (N,), eps=EPS), {}, eps=EPS)


def layernorm_affine() -> Case:
    """Gain and bias are rows `[1][n]`."""
    rng = Random(4)
    rows = {"gain": numbers(rng, 1, N, 2.0), "bias": numbers(rng, 1, N)}
    return layer(lambda x, g, b: F.layer_norm(x, (N,), g[0], b[0], EPS), rows, eps=EPS)


def activation(function: Callable[[Tensor], Tensor]) -> Case:
    return layer(function, {})


def loss(objective: Callable[[Tensor, Tensor], Tensor], **settings: Any) -> Case:
    """A mean over tokens, from logits and targets."""
    rng = Random(5)
    rows, targets = numbers(rng, T, N, 4.0), [4, 0, 2]
    logits = torch.tensor(rows, requires_grad=True)
    value = objective(logits, torch.tensor(targets))
    value.backward()
    return {
        "kind": "loss",
        "settings": settings,
        "inputs": {"logits": rows},
        "targets": targets,
        "value": value.item(),
        "gradients": {"logits": gradient(logits)},
    }


def cross_entropy() -> Case:
    return loss(F.cross_entropy)


def label_smoothing(smoothing: float = 0.1) -> Case:
    def objective(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)

    return loss(objective, smoothing=smoothing)


def z_loss(weight: float = 0.01) -> Case:
    """As PyTorch has none: cross-entropy + weight * mean(logsumexp^2), arXiv 2204.02311, section 5."""

    def objective(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets) + weight * logits.logsumexp(-1).square().mean()

    return loss(objective, weight=weight)
