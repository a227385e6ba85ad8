"""The GPT, for every engine."""

from collections.abc import Sequence

from microgpt.core.check import BadValue, flag
from microgpt.core.engine.base import Engine, Matrix, Spans, Weights
from microgpt.core.layers import base
from microgpt.core.layers.base import Cache, Caches, Context, Dims, Shapes
from microgpt.core.models.base import MAX_PARAMETERS
from microgpt.core.weight import Weight


class GPT:
    """A decoder-only transformer (Radford et al. 2019), composed of exchangeable parts.

    norm_embd   apply `norm` after the embeddings
    norm_final  apply `norm` before the head

    The norms inside a block are defined by `block`.
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
    ) -> None:
        self.dims = Dims(vocab_size, block_size, n_layer, n_head, n_embd)
        self.norm_embd = flag("norm_embd", norm_embd)
        self.norm_final = flag("norm_final", norm_final)
        self.norm, self.activation, self.position = norm, activation, position
        self.attention, self.mlp, self.block, self.head = attention, mlp, block, head
        self.init = init
        own = self._layer_shapes()
        _check_layers(n_layer, sum(weight.size for weight in own.values()))
        self._names = [{name: f"layer{i}.{name}" for name in own} for i in range(n_layer)]

    def shapes(self) -> Shapes:
        """Every weight's shape and role, in the order of the state dict."""
        dims = self.dims
        shapes = {"wte": Weight(dims.vocab_size, dims.n_embd, "embedding")}
        shapes |= self.position.shapes(dims) | self.head.shapes(dims)
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
        positions = [t for start, stop in spans for t in range(stop - start)][-len(tokens) :]
        context = Context(self.dims, positions, spans)
        x = ops.gather(w["wte"], tokens)  # [T][n_embd] up to the head
        x = self.position.embed(ops, w, x, context)
        x = self.norm(ops, w, x, "norm_embd") if self.norm_embd else x
        for names, cache in zip(self._names, caches or [None] * self.dims.n_layer):
            own = {name: w[full] for name, full in names.items()}
            x = self._layer(ops, own, x, context, cache)
        x = self.norm(ops, w, x, "norm_final") if self.norm_final else x
        return self.head(ops, w, x)

    def _layer_shapes(self) -> Shapes:
        """The weights of one block, without the prefix `layer<i>.`."""
        shapes = self.block.shapes(self.dims, self.norm)
        return shapes | self.attention.shapes(self.dims) | self.mlp.shapes(self.dims)

    def _layer(
        self, ops: Engine, w: Weights, x: Matrix, context: Context, cache: Cache | None
    ) -> Matrix:
        """One block with the weights `w`: `[T][n_embd] -> [T][n_embd]`."""
        return self.block(
            x,
            norm=lambda x, site: self.norm(ops, w, x, site),
            attention=lambda x: self.attention(ops, w, x, context, self.position, cache),
            mlp=lambda x: self.mlp(ops, w, x, self.activation),
        )


def _check_layers(n_layer: int, size: int) -> None:
    """Raises BadValue if there are too many layers of this size, before any is named."""
    if n_layer > MAX_PARAMETERS or size <= MAX_PARAMETERS < n_layer * size:
        allowed = (
            f"a model must have at most {MAX_PARAMETERS:,} parameters, and a layer has {size:,}"
        )
        raise BadValue("n_layer", n_layer, allowed)
