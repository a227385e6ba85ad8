"""AdamW: Adam with decoupled weight decay."""

from microgpt.core.check import choice, nonnegative
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Slots, Update
from microgpt.core.weight import HIDDEN, Weight

DECAYED = {
    "all": ("embedding", *HIDDEN, "output", "gain", "bias"),
    "matrices": ("embedding", *HIDDEN, "output"),
    "hidden": HIDDEN,
}


class AdamW(Adam):
    """p -= lr * weight_decay * p, then Adam's step (Loshchilov & Hutter 2017, arXiv 1711.05101, alg. 2).

    As in PyTorch, the decay is scaled by the learning rate. `decayed` chooses by role: `all` weights,
    the `matrices` (no gains and biases, as usual since GPT-2), or the `hidden` matrices of the blocks.
    """

    def __init__(
        self,
        *,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decayed: str = "all",
    ) -> None:
        super().__init__(lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        self.weight_decay = nonnegative("weight_decay", weight_decay)
        self.decayed = DECAYED[choice("decayed", decayed, list(DECAYED))]

    def update_of(self, weight: Weight) -> Update:
        return self.update if weight.role in self.decayed else super().update

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return super().update(ops, p * (1 - lr * self.weight_decay), g, slots, lr)
