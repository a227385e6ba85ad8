"""The number of parameters of a model, by formula."""

from collections.abc import Callable
from typing import Any

from microgpt.core.layers.attention.grouped_query import GroupedQuery
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.attention.none import NoAttention
from microgpt.core.layers.attention.sliding_window import SlidingWindow
from microgpt.core.layers.base import Dims
from microgpt.core.layers.block.parallel import Parallel
from microgpt.core.layers.block.post_norm import PostNorm
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.block.sandwich import Sandwich
from microgpt.core.layers.head.soft_capped import SoftCapped
from microgpt.core.layers.head.tied import Tied
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.mlp.gated import Gated
from microgpt.core.layers.mlp.none import NoMLP
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.layernorm_affine import LayerNormAffine
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.norm.rmsnorm_gain import RMSNormGain
from microgpt.core.layers.position.alibi import ALiBi
from microgpt.core.layers.position.learned import Learned
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.layers.position.rope import RoPE
from microgpt.core.layers.position.sinusoidal import Sinusoidal
from microgpt.core.models.gpt import GPT

# Parameters by hand, of parts that are known: outside the blocks, in one block, at one site of a norm.
OUTER: dict[type, Callable[[Any, Dims], int]] = {
    NoPosition: lambda part, d: 0,
    Sinusoidal: lambda part, d: 0,
    RoPE: lambda part, d: 0,
    ALiBi: lambda part, d: 0,
    Learned: lambda part, d: d.block_size * d.n_embd,
    Tied: lambda part, d: 0,
    Untied: lambda part, d: d.vocab_size * d.n_embd,
    SoftCapped: lambda part, d: d.vocab_size * d.n_embd,
}
INNER: dict[type, Callable[[Any, Dims, bool], int]] = {
    NoAttention: lambda part, d, bias: 0,
    MultiHead: lambda part, d, bias: 4 * d.n_embd**2 + bias * 4 * d.n_embd,
    SlidingWindow: lambda part, d, bias: 4 * d.n_embd**2 + bias * 4 * d.n_embd,
    GroupedQuery: lambda part, d, bias: (
        2 * (d.n_embd + bias) * d.n_embd
        + 2 * (d.n_embd + bias) * d.n_embd * part.n_kv_head // d.n_head
    ),
    NoMLP: lambda part, d, bias: 0,
    FeedForward: lambda part, d, bias: (
        2 * part.expansion * d.n_embd**2 + bias * (part.expansion + 1) * d.n_embd
    ),
    Gated: lambda part, d, bias: (
        3 * round(2 / 3 * part.expansion * d.n_embd) * d.n_embd
        + bias * (2 * round(2 / 3 * part.expansion * d.n_embd) + d.n_embd)
    ),
}
ROWS: dict[type, int] = {NoNorm: 0, RMSNorm: 0, LayerNorm: 0, RMSNormGain: 1, LayerNormAffine: 2}
SITES: dict[type, Callable[[int], int]] = {  # of norms in a block, by the number of sublayers
    PreNorm: lambda sublayers: sublayers,
    PostNorm: lambda sublayers: sublayers,
    Sandwich: lambda sublayers: 2 * sublayers,
    Parallel: lambda sublayers: min(1, sublayers),
}


def counted(m: GPT) -> int | None:
    """The parameters of a model by formula; None if it has a part from outside."""
    parts = [type(part) for part in (m.position, m.head, m.attention, m.mlp, m.norm, m.block)]
    if not set(parts) <= OUTER.keys() | INNER.keys() | ROWS.keys() | SITES.keys():
        return None
    d, rows = m.dims, ROWS[type(m.norm)]
    outer = sum(OUTER[type(part)](part, d) for part in (m.position, m.head))
    inner = sum(INNER[type(part)](part, d, m.bias) for part in (m.attention, m.mlp))
    sites = SITES[type(m.block)](m.attention.present + m.mlp.present) * d.n_embd
    sites += 2 * d.head_dim * m.norm_qk
    sites = sites * d.n_layer + d.n_embd * (m.norm_embd + m.norm_final)
    return d.vocab_size * d.n_embd + outer + d.n_layer * inner + rows * sites
