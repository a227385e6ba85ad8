"""A projection of its own to the vocabulary."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Dims, Head, Shapes, Weights


class Untied(Head):
    """logits = x lm_head^T, with a matrix that is not the embedding's."""

    def shapes(self, dims: Dims) -> Shapes:
        return {"lm_head": (dims.vocab_size, dims.n_embd)}

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return ops.linear(x, w["lm_head"])
