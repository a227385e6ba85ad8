"""The interface of a model, for training and sampling."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Spans
from microgpt.core.layers.base import Caches, Dims, Init, Shapes
from microgpt.core.streams.base import Streams

MAX_PARAMETERS = 10_000_000  # of a model; each is a Python number when it is drawn


class Model(Protocol):
    """Computes logits from tokens. It holds no weights: they are passed to every call, by name.

    A call does the same operations for every batch of one shape: an engine may replay them.
    """

    dims: Dims
    init: Init

    def shapes(self) -> Shapes:
        """Every weight's shape and role, in the order of the state dict."""

    def caches(self) -> Caches:
        """Empty KV caches for one document, to be passed to every call on it."""

    def __call__(
        self, ops: Engine, w: Weights, tokens: Sequence[int], spans: Spans, caches: Caches = None
    ) -> Matrix:
        """Logits `[T][vocab_size]` of the next token after each of the T tokens.

        `spans` divides the tokens into documents. With caches, the tokens are the last of one
        document, `spans` covers that whole document, and the caches hold its earlier rows.
        """


def initial_weights(model: Model, ops: Engine, streams: Streams) -> dict[str, Matrix]:
    """Initial weights, each drawn from the stream `init/<name>`."""
    init, dims = model.init, model.dims
    drawn = {name: init(w, dims, streams(f"init/{name}")) for name, w in model.shapes().items()}
    return ops.parameters(drawn)


def lr_scales(model: Model) -> Mapping[str, float]:
    """Each weight's factor of the learning rate."""
    return {name: model.init.lr_scale(w, model.dims) for name, w in model.shapes().items()}
