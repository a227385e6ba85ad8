"""The GPT: one definition, which runs on every engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from microgpt.core.engine.base import Engine, Matrix, Spans
from microgpt.core.layers import base
from microgpt.core.layers.base import Cache, Caches, Context, Shapes, Weights
from microgpt.core.streams.base import Streams


@dataclass(frozen=True, kw_only=True)
class GPT(base.Dims):
    """A decoder-only transformer with pre-norm (Radford et al. 2019), built from variants of its parts.

    After the embeddings stands one norm more, before the head none. It holds no numbers: the
    weights are given to every call, as `{name: matrix}` in the order of `shapes`.
    """

    norm: base.Norm
    activation: base.Activation
    position: base.Position
    attention: base.Attention
    mlp: base.MLP
    head: base.Head
    init: base.Init

    def shapes(self) -> Shapes:
        """Every weight's (n_out, n_in), in the order of the state dict."""
        shapes = {"wte": (self.vocab_size, self.n_embd)}
        shapes |= self.position.shapes(self) | self.head.shapes(self)
        shapes |= self.norm.shapes(self, "norm_embd")
        block = self.norm.shapes(self, "norm_attn") | self.attention.shapes(self)
        block |= self.norm.shapes(self, "norm_mlp") | self.mlp.shapes(self)
        for i in range(self.n_layer):
            shapes |= {f"layer{i}.{name}": shape for name, shape in block.items()}
        return shapes

    def weights(self, ops: Engine, streams: Streams) -> dict[str, Matrix]:
        """Fresh weights, each drawn from the stream `init/<name>`."""
        return {
            name: ops.parameter(self.init.draw(name, *shape, streams(f"init/{name}")))
            for name, shape in self.shapes().items()
        }

    def caches(self) -> list[Cache]:
        """An empty cache for each layer."""
        return [Cache() for _ in range(self.n_layer)]

    def __call__(
        self, ops: Engine, w: Weights, tokens: Sequence[int], spans: Spans, caches: Caches = None
    ) -> Matrix:
        """Logits `[T][vocab_size]` of what follows each of the T tokens.

        `spans` divides the tokens into documents. With caches, the tokens are the last of one
        document, `spans` is that whole document, and its earlier rows come from the caches.
        """
        positions = [t for start, stop in spans for t in range(stop - start)][-len(tokens) :]
        context = Context(self, positions, spans)
        x = ops.rows(w["wte"], tokens)  # [T][n_embd], and so up to the head
        x = self.position.embed(ops, w, x, context)
        x = self.norm(ops, w, x, "norm_embd")
        for i, cache in enumerate(caches or [None] * self.n_layer):
            at = f"layer{i}."
            block = {name.removeprefix(at): m for name, m in w.items() if name.startswith(at)}
            normed = self.norm(ops, block, x, "norm_attn")
            x = ops.add(self.attention(ops, block, normed, context, self.position, cache), x)
            normed = self.norm(ops, block, x, "norm_mlp")
            x = ops.add(self.mlp(ops, block, normed, self.activation), x)
        return self.head(ops, w, x)
