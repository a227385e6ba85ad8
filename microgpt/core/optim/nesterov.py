"""Stochastic gradient descent with Nesterov's momentum."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.base import Slots
from microgpt.core.optim.sgd import SGD


class Nesterov(SGD):
    """m = momentum * m + g;  p -= lr * (g + momentum * m).

    Nesterov 1983, in the form of Bengio et al. 2012, arXiv 1212.0901, and PyTorch, without dampening: the
    gradient is that at p, and the rate stands outside the momentum.
    """

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        slots["m"] = m = self.momentum * slots["m"] + g
        return p - lr * (g + self.momentum * m)
