"""Lion: the sign of an interpolated momentum."""

from microgpt.core.check import fraction, nonnegative
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.base import Optimizer, Slots


class Lion(Optimizer):
    """p -= lr (sign(b1 m + (1-b1) g) + weight_decay p);  m = b2 m + (1-b2) g.

    Chen et al. 2023, arXiv 2302.06675, algorithm 2. All weights decay.
    """

    slots = ("m",)
    elementwise = True

    def __init__(self, *, lr: float, beta1: float, beta2: float, weight_decay: float) -> None:
        super().__init__(lr=lr)
        self.beta1 = fraction("beta1", beta1)
        self.beta2 = fraction("beta2", beta2)
        self.weight_decay = nonnegative("weight_decay", weight_decay)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        b1, b2, m = self.beta1, self.beta2, slots["m"]
        slots["m"] = b2 * m + (1 - b2) * g
        return p - lr * (ops.sign(b1 * m + (1 - b1) * g) + self.weight_decay * p)
