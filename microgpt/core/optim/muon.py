"""Muon: momentum orthogonalised by Newton-Schulz iterations."""

from math import sqrt

from microgpt.core.check import fraction, integer, nonnegative, positive
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.models.base import Model
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Slots, Update
from microgpt.core.optim.scales import check_alike
from microgpt.core.weight import HIDDEN, Weight

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c of the quintic a x + b x^3 + c x^5


class Muon(Adam):
    """m = momentum m + g;  u = g + momentum m;  p -= lr sqrt(max(1, n_out / n_in)) NS(u).

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025, arXiv 2502.16982.
    NS(u) brings the singular values of u near 1. The rule applies to hidden matrices, which decay by
    lr * weight_decay. Embeddings, the output projection, gains and biases are updated by Adam, with
    the peak rate `adam_lr` under the same schedule. Departs from the authors' program in computing
    in doubles instead of bfloat16.
    """

    elementwise = False

    def __init__(
        self,
        *,
        lr: float,
        momentum: float,
        ns_steps: int,
        weight_decay: float,
        adam_lr: float,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        super().__init__(lr=lr, beta1=beta1, beta2=beta2, eps=eps)
        self.momentum = fraction("momentum", momentum)
        self.ns_steps = integer("ns_steps", ns_steps, 1)
        self.weight_decay = nonnegative("weight_decay", weight_decay)
        self.adam_lr = positive("adam_lr", adam_lr)

    def check(self, model: Model) -> None:
        check_alike(self, model)

    def update_of(self, weight: Weight) -> Update:
        return self.update if weight.role in HIDDEN else self.update_other

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        return ("m",) if weight.role in HIDDEN else self.slots

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        n_out, n_in = ops.shape(p)
        slots["m"] = m = self.momentum * slots["m"] + g
        u = orthogonalised(ops, g + self.momentum * m, self.ns_steps)
        return p * (1 - lr * self.weight_decay) - lr * sqrt(max(1, n_out / n_in)) * u

    def update_other(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        """Adam's update, for all weights that are not hidden matrices."""
        return super().update(ops, p, g, slots, lr * (self.adam_lr / self.lr))


def orthogonalised(ops: Engine, x: Matrix, steps: int) -> Matrix:
    """Newton-Schulz: x / |x|, then `steps` iterations of x -> a x + b (x x^T) x + c (x x^T)^2 x."""
    a, b, c = COEFFICIENTS
    n_out, n_in = ops.shape(x)
    if n_out > n_in:  # x x^T is smaller with the shorter side first
        return ops.transpose(orthogonalised(ops, ops.transpose(x), steps))
    norm = ops.row_sum(ops.transpose(ops.row_sum(x**2))) ** 0.5  # Frobenius norm, [1][1]
    x = x / (norm + 1e-7)
    for _ in range(steps):
        square = ops.linear(x, x)  # x x^T
        polynomial = b * square + c * ops.linear(square, square)  # square is symmetric
        x = a * x + ops.linear(polynomial, ops.transpose(x))
    return x
