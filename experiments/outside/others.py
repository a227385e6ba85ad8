"""The parts of others' models that the workbench does not have."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log, sqrt
from random import Random
from typing import Any

import numpy as np

from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims, Shapes, project
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.normal import Normal
from microgpt.core.models.gpt import GPT
from microgpt.core.tokenizer import CharTokenizer
from microgpt.core.weight import Weight

UNBIASED = {f"attn_w{name}.bias" for name in "qkv"}


class GPTDev(GPT):
    """The GPT of gpt-dev.ipynb: no token for the end of a text, no biases in queries, keys and values."""

    def __init__(self, *, vocab_size: int, **parts: Any) -> None:
        super().__init__(vocab_size=vocab_size - 1, **parts)  # BOS, the last id, is in no window

    def _layer_shapes(self) -> Shapes:
        shapes = super()._layer_shapes()
        return {name: weight for name, weight in shapes.items() if name not in UNBIASED}


class BiasedHead(Untied):
    """logits = x lm_head^T + bias."""

    def shapes(self, dims: Dims) -> Shapes:
        return super().shapes(dims) | {"lm_head.bias": Weight(1, dims.vocab_size, "bias")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return project(ops, w, "lm_head", x)


class TorchDefaults(Normal):
    """PyTorch's initial weights: uniform in +-1 / sqrt(n_in) for linear layers, normal for embeddings.

    Departure: biases begin at 0, not uniform. The attention's scale is that of the notebook, whose
    `C**-0.5` takes the width of the embeddings where the width of a head was meant.
    """

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        if weight.role == "embedding":
            return super().draw(weight, dims, rng)
        bound = 1 / sqrt(weight.n_in)
        return [
            [bound * (2 * rng.random() - 1) for _ in range(weight.n_in)]
            for _ in range(weight.n_out)
        ]

    def attention_scale(self, dims: Dims) -> float | None:
        return 1 / sqrt(dims.n_embd)


def counted(documents: Sequence[str], tokenizer: CharTokenizer) -> Rows:
    """The bigram model's table by counting: log(count + 1), `[vocab_size][vocab_size]`."""
    size = tokenizer.vocab_size
    counts = [[1] * size for _ in range(size)]
    for i, j in pairs(documents, tokenizer):
        counts[i][j] += 1
    return [[log(count) for count in row] for row in counts]


def float32_sum(table: Rows, documents: Sequence[str], tokenizer: CharTokenizer) -> float:
    """The loss of the documents under logits `table`, added up one by one in float32."""
    counts = np.exp(np.array(table)).round().astype(np.float32)
    nats = -np.log(counts / counts.sum(1, keepdims=True))
    total, number = np.float32(0), 0
    for i, j in pairs(documents, tokenizer):
        total, number = total + nats[i, j], number + 1
    return float(total / np.float32(number))


def pairs(documents: Sequence[str], tokenizer: CharTokenizer) -> Iterator[tuple[int, int]]:
    """Every token with the one after it."""
    for document in documents:
        yield from pairwise(tokenizer.document(document))
