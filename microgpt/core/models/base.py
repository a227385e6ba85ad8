"""What training and sampling need of a model."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from microgpt.core.engine.base import Engine, Matrix, Spans, Weights
from microgpt.core.layers.base import Caches, Dims, Init, Shapes
from microgpt.core.streams.base import Streams


class Model(Protocol):
    """Logits from tokens. It holds no numbers: the weights are given to every call, by name.

    A call does the same with every batch of one shape: an engine may repeat what it did, without it.
    """

    dims: Dims
    init: Init

    def shapes(self) -> Shapes:
        """Every weight's shape and role, in the order of the state dict."""

    def caches(self) -> Caches:
        """What it remembers of one document, to be given to every call on it; empty at first."""

    def __call__(
        self, ops: Engine, w: Weights, tokens: Sequence[int], spans: Spans, caches: Caches = None
    ) -> Matrix:
        """Logits `[T][vocab_size]` of what follows each of the T tokens.

        `spans` divides the tokens into documents. With caches, the tokens are the last of one
        document, `spans` is that whole document, and its earlier rows come from the caches.
        """


def initial_weights(model: Model, ops: Engine, streams: Streams) -> dict[str, Matrix]:
    """Fresh weights, each drawn from the stream `init/<name>`."""
    init, dims = model.init, model.dims
    drawn = {name: init(w, dims, streams(f"init/{name}")) for name, w in model.shapes().items()}
    return ops.parameters(drawn)


def lr_scales(model: Model) -> Mapping[str, float]:
    """Each weight's share of the learning rate."""
    return {name: model.init.lr_scale(w, model.dims) for name, w in model.shapes().items()}
