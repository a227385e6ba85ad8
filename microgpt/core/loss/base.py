"""The interface of a loss."""

from collections.abc import Sequence

from microgpt.core.engine.base import Engine, Matrix


class Loss:
    """The training objective. The metric `train/loss` is always the plain cross-entropy.

    It computes from its arguments alone, see `Layer`.
    """

    def __call__(self, ops: Engine, loss: Matrix, logits: Matrix, targets: Sequence[int]) -> Matrix:
        """The objective `[1][1]`; `loss` `[1][1]` is the cross-entropy of logits `[T][vocab_size]`."""
        raise NotImplementedError
