"""The GPT, for every engine."""

from collections.abc import Sequence
from dataclasses import replace

from microgpt.core.check import BadValue, flag
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Spans
from microgpt.core.layers import base
from microgpt.core.layers.base import Cache, Caches, Context, Dims, Shapes
from microgpt.core.models.base import MAX_PARAMETERS
from microgpt.core.weight import HIDDEN, Weight


class GPT:
    """A decoder-only transformer (Radford et al. 2019), composed of exchangeable parts.

    norm_embd   apply `norm` after the embeddings
    norm_final  apply `norm` before the head
    norm_qk     apply `norm` to each head's queries and keys, with weights of their own
    bias        add a bias, initially 0, to every projection inside the blocks

    The norms inside a block are defined by `block`. Raises BadValue.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        block_size: int,
        n_layer: int,
        n_head: int,
        n_embd: int,
        norm_embd: bool,
        norm_final: bool,
        norm: base.Norm,
        activation: base.Activation,
        position: base.Position,
        attention: base.Attention,
        mlp: base.MLP,
        block: base.Block,
        head: base.Head,
        init: base.Init,
        norm_qk: bool = False,
        bias: bool = False,
    ) -> None:
        self.dims = Dims(vocab_size, block_size, n_layer, n_head, n_embd)
        self.norm_embd = flag("norm_embd", norm_embd)
        self.norm_final = flag("norm_final", norm_final)
        self.norm_qk, self.bias = flag("norm_qk", norm_qk), flag("bias", bias)
        self.norm, self.activation, self.position = norm, activation, position
        self.attention, self.mlp, self.block, self.head = attention, mlp, block, head
        self.init = init
        parts = {"attn": attention, "mlp": mlp}
        self._sublayers = [name for name, part in parts.items() if part.present]
        if norm_qk and not attention.present:
            raise BadValue("norm_qk", True, "there are no queries and keys with attention=none")
        self._outer = position.shapes(self.dims) | head.shapes(self.dims)
        own = self._layer_shapes()
        _check_layers(n_layer, sum(weight.size for weight in own.values()))
        self._names = [{name: f"layer{i}.{name}" for name in own} for i in range(n_layer)]

    def shapes(self) -> Shapes:
        """Every weight's shape and role, in the order of the state dict."""
        dims = self.dims
        shapes = {"wte": Weight(dims.vocab_size, dims.n_embd, "embedding")} | self._outer
        shapes |= self.norm.shapes(dims, "norm_embd") if self.norm_embd else {}
        own = self._layer_shapes()
        for names in self._names:
            shapes |= {names[name]: weight for name, weight in own.items()}
        return shapes | (self.norm.shapes(dims, "norm_final") if self.norm_final else {})

    def caches(self) -> list[Cache]:
        """An empty cache for each layer."""
        return [Cache() for _ in range(self.dims.n_layer)]

    def __call__(
        self, ops: Engine, w: Weights, tokens: Sequence[int], spans: Spans, caches: Caches = None
    ) -> Matrix:
        """Logits `[T][vocab_size]`; see `Model`."""
        dims = self.dims
        positions = [t for start, stop in spans for t in range(stop - start)][-len(tokens) :]
        norm_qk, scale = self.norm if self.norm_qk else None, self.init.attention_scale(dims)
        context = Context(dims, positions, spans, norm_qk, scale)
        x = ops.gather(w["wte"], tokens)  # [T][n_embd] up to the head
        x = self.position.embed(ops, w, x, context)
        x = self.norm(ops, w, x, "norm_embd") if self.norm_embd else x
        for names, cache in zip(self._names, caches or [None] * dims.n_layer):
            own = {name: w[full] for name, full in names.items()}
            x = self._layer(ops, own, x, context, cache)
        x = self.norm(ops, w, x, "norm_final") if self.norm_final else x
        factor = self.init.output_scale(dims)
        return self.head(ops, w, x if factor == 1 else factor * x)

    def _layer_shapes(self) -> Shapes:
        """The weights of one block, without the prefix `layer<i>.`."""
        dims, norm = self.dims, self.norm
        shapes: Shapes = {}
        for site in self.block.sites(self._sublayers):
            shapes |= norm.shapes(dims, site)
        if self.norm_qk:
            head = replace(dims, n_embd=dims.head_dim, n_head=1)
            shapes |= norm.shapes(head, "norm_q") | norm.shapes(head, "norm_k")
        for name, weight in (self.attention.shapes(dims) | self.mlp.shapes(dims)).items():
            shapes[name] = weight
            if self.bias and weight.role in HIDDEN:
                shapes[f"{name}.bias"] = Weight(1, weight.n_out, "bias")
        return shapes

    def _layer(
        self, ops: Engine, w: Weights, x: Matrix, context: Context, cache: Cache | None
    ) -> Matrix:
        """One block with the weights `w`: `[T][n_embd] -> [T][n_embd]`."""
        sublayers: dict[str, base.Sublayer] = {
            "attn": lambda x: self.attention(ops, w, x, context, self.position, cache),
            "mlp": lambda x: self.mlp(ops, w, x, self.activation),
        }
        present = {name: sublayers[name] for name in self._sublayers}
        return self.block(x, lambda x, site: self.norm(ops, w, x, site), present)


def _check_layers(n_layer: int, size: int) -> None:
    """Raises BadValue if there are too many layers of this size, before any is named."""
    if n_layer > MAX_PARAMETERS or size <= MAX_PARAMETERS < n_layer * size:
        allowed = (
            f"a model must have at most {MAX_PARAMETERS:,} parameters, and a layer has {size:,}"
        )
        raise BadValue("n_layer", n_layer, allowed)
