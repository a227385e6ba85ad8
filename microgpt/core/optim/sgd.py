"""Stochastic gradient descent, with or without momentum."""

from microgpt.core.check import fraction
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.models.base import Model
from microgpt.core.optim.base import Optimizer, Slots
from microgpt.core.optim.scales import check_alike


class SGD(Optimizer):
    """m = momentum * m + g;  p -= lr * m (Polyak 1964; as in PyTorch, without dampening)."""

    slots = ("m",)
    elementwise = True

    def __init__(self, *, lr: float, momentum: float) -> None:
        super().__init__(lr=lr)
        self.momentum = fraction("momentum", momentum)

    def check(self, model: Model) -> None:
        check_alike(self, model)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        slots["m"] = m = self.momentum * slots["m"] + g
        return p - lr * m
