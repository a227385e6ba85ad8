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
        b1, b2, m, v = self.beta1, self.beta2, self.state["m"][name], self.state["v"][name]
        c1, c2 = 1 - b1, 1 - b2
        root = sqrt(1 - exact.power(b2, self.steps))  # sqrt(v^) = sqrt(v) / root
        rate, eps = lr * root / (1 - exact.power(b1, self.steps)), self.eps * root
        # In place, number by number: what is freed is at once used again, while it is in the cache.
        for i, g in enumerate(grads):
            m[i] = a = b1 * m[i] + c1 * g
            v[i] = b = b2 * v[i] + c2 * (g * g)
            values[i] -= rate * a / (sqrt(b) + eps)
        return values
