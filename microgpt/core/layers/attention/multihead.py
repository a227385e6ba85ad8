"""Multi-head self-attention."""

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Bias
from microgpt.core.layers.base import Attention, Cache, Context, Dims, Position, Shapes, project
from microgpt.core.weight import Weight


class MultiHead(Attention):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, 3.2.2).

    With QK-norm, each head's queries and keys are normalised before positions are encoded
    (Henry et al. 2020, arXiv 2010.04245; Dehghani et al. 2023, arXiv 2302.05442, equation 2).
    """

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
        q = normed(ops, w, project(ops, w, "attn_wq", x), context, "norm_q")
        k = normed(ops, w, project(ops, w, "attn_wk", x), context, "norm_k")
        q, k = at.rotate(ops, q, context), at.rotate(ops, k, context)
        v = project(ops, w, "attn_wv", x)
        if cache is not None:
            k, v = cache.append(ops, k, v)
        n_head, bias = context.dims.n_head, self.bias(context.dims, at)
        mixed = ops.attention(
            q, k, v, n_head=n_head, spans=context.spans, bias=bias, scale=context.scale
        )
        return project(ops, w, "attn_wo", mixed)

    def bias(self, dims: Dims, at: Position) -> Bias:
        """`[n_head][distance]`, added to the scores; by default that of the positions."""
        return at.bias(dims)


def normed(ops: Engine, w: Weights, x: Matrix, context: Context, site: str) -> Matrix:
    """Queries or keys `[T][heads * head_dim]`, each head's normalised with QK-norm."""
    if context.norm_qk is None:
        return x
    size = context.dims.head_dim
    heads = [ops.columns(x, at, at + size) for at in range(0, ops.shape(x)[1], size)]
    return ops.concat_columns([context.norm_qk(ops, w, head, site) for head in heads])
