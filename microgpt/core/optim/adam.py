"""Adam."""

from math import sqrt

from microgpt.core import exact
from microgpt.core.check import fraction, positive
from microgpt.core.optim.base import Optimizer


class Adam(Optimizer):
    """m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr m^ / (sqrt(v^) + eps).

    Kingma & Ba 2014, arXiv 1412.6980, algorithm 1. The bias corrections m^ = m / (1 - b1^t) and
    v^ = v / (1 - b2^t) are folded into two constants a step, and the powers are repeated products:
    both give the same bits on every machine.
    """

    slots = ("m", "v")

    def __init__(self, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
        super().__init__(lr=lr)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.eps = positive("eps", eps)

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        b1, b2, eps = self.beta1, self.beta2, self.eps
        c1, c2 = 1 - b1, 1 - b2
        rate = lr / (1 - exact.power(b1, self.steps))
        root = sqrt(1 - exact.power(b2, self.steps))  # sqrt(v^) = sqrt(v) / root
        m = [b1 * a + c1 * g for a, g in zip(self.state["m"][name], grads)]
        v = [b2 * a + c2 * (g * g) for a, g in zip(self.state["v"][name], grads)]
        self.state["m"][name], self.state["v"][name] = m, v
        return [p - rate * a / (sqrt(b) / root + eps) for p, a, b in zip(values, m, v)]
