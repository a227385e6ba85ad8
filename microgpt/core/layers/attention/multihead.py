"""Multi-head self-attention."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Attention, Cache, Context, Dims, Position, Shapes
from microgpt.core.weight import Weight


class MultiHead(Attention):
    """Multi-head attention without biases (arXiv 1706.03762, 3.2.2)."""

    def shapes(self, dims: Dims) -> Shapes:
        matrix = Weight(dims.n_embd, dims.n_embd, "matrix")
        shapes = dict.fromkeys(("attn_wq", "attn_wk", "attn_wv"), matrix)
        return shapes | {"attn_wo": Weight(dims.n_embd, dims.n_embd, "residual_out")}

    def __call__(
        self,
        ops: Engine,
        w: Weights,
        x: Matrix,
        context: Context,
        at: Position,
        cache: Cache | None,
    ) -> Matrix:
        q = at.rotate(ops, ops.linear(x, w["attn_wq"]), context)
        k = at.rotate(ops, ops.linear(x, w["attn_wk"]), context)
        v = ops.linear(x, w["attn_wv"])
        if cache is not None:
            k, v = cache.append(ops, k, v)
        n_head, bias = context.dims.n_head, at.bias(context.dims)
        mixed = ops.attention(q, k, v, n_head=n_head, spans=context.spans, bias=bias)
        return ops.linear(mixed, w["attn_wo"])
