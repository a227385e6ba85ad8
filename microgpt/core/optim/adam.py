"""Adam."""

from math import sqrt

from microgpt.core import exact
from microgpt.core.check import fraction, positive
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.base import Optimizer, Slots


class Adam(Optimizer):
    """m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p -= lr m^ / (sqrt(v^) + eps).

    Kingma & Ba 2014, arXiv 1412.6980, algorithm 1. The bias corrections m^ = m / (1 - b1^t) and
    v^ = v / (1 - b2^t) are folded into two constants per step. Powers are repeated products, which
    have the same bits on every machine.
    """

    slots = ("m", "v")
    elementwise = True

    def __init__(self, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
        super().__init__(lr=lr)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.eps = positive("eps", eps)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        b1, b2, t = self.beta1, self.beta2, self.steps
        root = sqrt(1 - exact.power(b2, t))  # sqrt(v^) = sqrt(v) / root
        rate, eps = lr * root / (1 - exact.power(b1, t)), self.eps * root
        p, slots["m"], slots["v"] = ops.adam(
            p, g, slots["m"], slots["v"], beta1=b1, beta2=b2, rate=rate, eps=eps
        )
        return p
