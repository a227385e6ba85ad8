"""Cross-entropy with label smoothing."""

from collections.abc import Sequence

from microgpt.core.check import fraction
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.loss.base import Loss


class LabelSmoothing(Loss):
    """(1 - smoothing) cross-entropy + smoothing * mean over the vocabulary of -log softmax(logits).

    Szegedy et al. 2015, arXiv 1512.00567, section 7.
    """

    def __init__(self, *, smoothing: float) -> None:
        self.smoothing = fraction("smoothing", smoothing)

    def __call__(self, ops: Engine, loss: Matrix, logits: Matrix, targets: Sequence[int]) -> Matrix:
        vocab_size = ops.shape(logits)[1]
        uniform = ops.logsumexp(logits) - ops.row_sum(logits) * (1 / vocab_size)
        return (1 - self.smoothing) * loss + self.smoothing * ops.mean(uniform)
