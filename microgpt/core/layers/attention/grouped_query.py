"""Grouped-query attention: several heads of queries share a head of keys and values."""

from microgpt.core.check import BadValue, integer
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.base import Dims, Shapes
from microgpt.core.weight import Weight


class GroupedQuery(MultiHead):
    """Multi-head attention with `n_kv_head` heads of keys and values, `[T][n_kv_head * head_dim]`.

    Query head h reads head h * n_kv_head // n_head (Ainslie et al. 2023, arXiv 2305.13245, 2.2). With
    n_kv_head = 1 it is multi-query attention (Shazeer 2019, arXiv 1911.02150, section 3).
    """

    def __init__(self, *, n_kv_head: int) -> None:
        self.n_kv_head = integer("n_kv_head", n_kv_head, 1)

    def shapes(self, dims: Dims) -> Shapes:
        if dims.n_head % self.n_kv_head:
            allowed = f"must divide n_head={dims.n_head}"
            raise BadValue("attention.n_kv_head", self.n_kv_head, allowed)
        shared = Weight(self.n_kv_head * dims.head_dim, dims.n_embd, "matrix")
        return super().shapes(dims) | {"attn_wk": shared, "attn_wv": shared}
