"""An output projection that is not tied to the embedding."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Dims, Head, Shapes
from microgpt.core.weight import Weight


class Untied(Head):
    """logits = x lm_head^T, where lm_head is not wte."""

    def shapes(self, dims: Dims) -> Shapes:
        return {"lm_head": Weight(dims.vocab_size, dims.n_embd, "output")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return ops.linear(x, w["lm_head"])
