"""Cross-entropy with an auxiliary loss on the softmax's normaliser."""

from collections.abc import Sequence

from microgpt.core.check import nonnegative
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.loss.base import Loss


class ZLoss(Loss):
    """cross-entropy + weight * mean(log(Z)^2), Z = sum(exp(logits)).

    Chowdhery et al. 2022 (PaLM), arXiv 2204.02311, section 5; Wortsman et al. 2023, arXiv 2309.14322.
    """

    def __init__(self, *, weight: float) -> None:
        self.weight = nonnegative("weight", weight)

    def __call__(self, ops: Engine, loss: Matrix, logits: Matrix, targets: Sequence[int]) -> Matrix:
        return loss + self.weight * ops.mean(ops.logsumexp(logits) ** 2)
