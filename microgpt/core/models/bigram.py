"""The bigram model, as a baseline."""

from collections.abc import Sequence

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Spans
from microgpt.core.layers.base import Cache, Caches, Dims, Init, Shapes
from microgpt.core.weight import Weight


class Bigram:
    """The logits are the current token's row of a table `[vocab_size][vocab_size]`."""

    def __init__(self, *, vocab_size: int, block_size: int, init: Init) -> None:
        self.dims = Dims(vocab_size, block_size, n_layer=0, n_head=1, n_embd=vocab_size)
        self.init = init

    def shapes(self) -> Shapes:
        """The table, whose row i holds the logits after token i."""
        return {"bigram": Weight(self.dims.vocab_size, self.dims.vocab_size, "embedding")}

    def caches(self) -> list[Cache]:
        """None are needed."""
        return []

    def __call__(
        self, ops: Engine, w: Weights, tokens: Sequence[int], spans: Spans, caches: Caches = None
    ) -> Matrix:
        """Logits `[T][vocab_size]`; see `Model`."""
        return ops.gather(w["bigram"], tokens)
