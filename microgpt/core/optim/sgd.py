"""Stochastic gradient descent, with or without momentum."""

from microgpt.core.check import fraction
from microgpt.core.optim.base import Optimizer


class SGD(Optimizer):
    """m = momentum * m + g;  p -= lr * m (Polyak 1964, in PyTorch's form, without dampening)."""

    slots = ("m",)

    def __init__(self, *, lr: float, momentum: float) -> None:
        super().__init__(lr=lr)
        self.momentum = fraction("momentum", momentum)

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        m = [self.momentum * a + g for a, g in zip(self.state["m"][name], grads)]
        self.state["m"][name] = m
        return [p - lr * a for p, a in zip(values, m)]
