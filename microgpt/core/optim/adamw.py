"""AdamW: Adam with decoupled weight decay."""

from microgpt.core.check import nonnegative
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Slots


class AdamW(Adam):
    """p -= lr * weight_decay * p, then Adam's step (Loshchilov & Hutter 2017, arXiv 1711.05101).

    As in PyTorch, the decay is scaled by the learning rate. All weights decay, embeddings included.
    """

    def __init__(
        self, *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        super().__init__(lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        self.weight_decay = nonnegative("weight_decay", weight_decay)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return super().update(ops, p * (1 - lr * self.weight_decay), g, slots, lr)
