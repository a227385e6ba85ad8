"""A learned vector for each position."""

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.base import Context, Dims, Position, Shapes, Weights


class Learned(Position):
    """Row t of `wpe` `[block_size][n_embd]` is added to the embedding of token t, as in GPT-2."""

    def shapes(self, dims: Dims) -> Shapes:
        return {"wpe": (dims.block_size, dims.n_embd)}

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        return ops.add(x, ops.rows(w["wpe"], context.positions))
