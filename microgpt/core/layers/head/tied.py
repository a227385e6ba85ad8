"""The token embedding as output projection."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Head


class Tied(Head):
    """logits = x wte^T, without weights of its own (Press & Wolf 2016, arXiv 1608.05859)."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return ops.linear(x, w["wte"])
