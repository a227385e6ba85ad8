"""The GPT: one definition, which runs on every engine."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from struct import pack

from microgpt.core.check import BadValue, integer
from microgpt.core.engine.base import Engine, Matrix, Spans
from microgpt.core.layers.base import (
    MLP,
    Activation,
    Attention,
    Cache,
    Context,
    Dims,
    Head,
    Init,
    Norm,
    Position,
    Shapes,
    Weights,
)
from microgpt.core.streams.base import Streams


class GPT:
    """A decoder-only transformer with pre-norm (Radford et al. 2019), built from variants of its parts.

    After the embeddings stands one norm more, before the head none. It holds no numbers: the
    weights are given to every call, as `{name: matrix}` in the order of `shapes`.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        block_size: int,
        n_layer: int,
        n_head: int,
        n_embd: int,
        norm: Norm,
        activation: Activation,
        position: Position,
        attention: Attention,
        mlp: MLP,
        head: Head,
        init: Init,
    ) -> None:
        self.dims = Dims(
            vocab_size=integer("vocab_size", vocab_size, 2),
            block_size=integer("block_size", block_size, 1),
            n_layer=integer("n_layer", n_layer, 0),
            n_head=integer("n_head", n_head, 1),
            n_embd=integer("n_embd", n_embd, 1),
        )
        if n_embd % n_head:
            raise BadValue("n_head", n_head, f"must divide n_embd={n_embd}")
        self.norm, self.activation, self.position = norm, activation, position
        self.attention, self.mlp, self.head, self.init = attention, mlp, head, init

    def shapes(self) -> Shapes:
        """Every weight's (n_out, n_in), in the order of the state dict."""
        dims = self.dims
        shapes = {"wte": (dims.vocab_size, dims.n_embd)}
        shapes |= self.position.shapes(dims) | self.head.shapes(dims)
        shapes |= self.norm.shapes(dims, "norm_embd")
        block = self.norm.shapes(dims, "norm_attn") | self.attention.shapes(dims)
        block |= self.norm.shapes(dims, "norm_mlp") | self.mlp.shapes(dims)
        for i in range(dims.n_layer):
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
        return [Cache() for _ in range(self.dims.n_layer)]

    def __call__(
        self,
        ops: Engine,
        w: Weights,
        tokens: Sequence[int],
        spans: Spans,
        caches: Sequence[Cache] | None = None,
    ) -> Matrix:
        """Logits `[T][vocab_size]` of what follows each of the T tokens.

        `spans` divides the tokens into documents. With caches, the tokens are the last of one
        document, `spans` is that whole document, and its earlier rows come from the caches.
        """
        positions = [t for start, stop in spans for t in range(stop - start)][-len(tokens) :]
        context = Context(positions, spans)
        x = ops.rows(w["wte"], tokens)  # [T][n_embd], and so up to the head
        x = self.position.embed(ops, w, x, context)
        x = self.norm(ops, w, x, "norm_embd")
        for i in range(self.dims.n_layer):
            block = _block(w, i)
            cache = caches[i] if caches else None
            normed = self.norm(ops, block, x, "norm_attn")
            mixed = self.attention(ops, block, normed, context, self.dims, self.position, cache)
            x = ops.add(mixed, x)
            normed = self.norm(ops, block, x, "norm_mlp")
            x = ops.add(self.mlp(ops, block, normed, self.activation), x)
        return self.head(ops, w, x)


def _block(w: Weights, i: int) -> Weights:
    """The weights of layer i, under the names that its parts know."""
    prefix = f"layer{i}."
    return {name.removeprefix(prefix): w[name] for name in w if name.startswith(prefix)}


def parameters_sha256(weights: Mapping[str, list[float]]) -> str:
    """sha256 over all parameters, flat as `Engine.flat` gives them, as little-endian doubles."""
    return sha256(b"".join(pack(f"<{len(flat)}d", *flat) for flat in weights.values())).hexdigest()
