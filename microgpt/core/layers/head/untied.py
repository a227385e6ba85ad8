"""A projection of its own to the vocabulary."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Dims, Head, Shapes
from microgpt.core.weight import Weight


class Untied(Head):
    """logits = x lm_head^T, with a matrix that is not the embedding's."""

    def shapes(self, dims: Dims) -> Shapes:
        return {"lm_head": Weight(dims.vocab_size, dims.n_embd, "output")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return ops.linear(x, w["lm_head"])
