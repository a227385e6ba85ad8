"""Learned position embeddings."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Context, Dims, Position, Shapes
from microgpt.core.weight import Weight


class Learned(Position):
    """Row t of `wpe` `[block_size][n_embd]` is added to the embedding of token t, as in GPT-2."""

    def shapes(self, dims: Dims) -> Shapes:
        return {"wpe": Weight(dims.block_size, dims.n_embd, "embedding")}

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        return x + ops.gather(w["wpe"], context.positions)
