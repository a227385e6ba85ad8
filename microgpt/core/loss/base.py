"""The contract of a loss."""

from collections.abc import Sequence

from microgpt.core.engine.base import Engine, Matrix


class Loss:
    """What a step minimises. The metric `train/loss` is the plain cross-entropy whatever this is.

    It computes from its arguments alone, and not from how often it was called: see `Layer`.
    """

    def __call__(self, ops: Engine, loss: Matrix, logits: Matrix, targets: Sequence[int]) -> Matrix:
        """The objective `[1][1]`; `loss` `[1][1]` is the mean cross-entropy of logits `[T][vocab_size]`."""
        raise NotImplementedError
