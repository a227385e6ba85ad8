"""What a layer is given and what it may own.

A layer names the weights that it owns with their shapes, and computes rows from rows with the
operations of the engine. It holds its hyperparameters and no numbers, so one layer serves all blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, TypeAlias

from microgpt.core.check import BadValue, integer, nonnegative
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans, Weights
from microgpt.core.weight import Weight

Shapes: TypeAlias = dict[str, Weight]


@dataclass(frozen=True)
class Dims:
    """The sizes of a model, named as in GPT-2's code."""

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int

    def __post_init__(self) -> None:
        least = {"vocab_size": 2, "block_size": 1, "n_layer": 0, "n_head": 1, "n_embd": 1}
        for key, minimum in least.items():
            integer(key, getattr(self, key), minimum)
        if self.n_embd % self.n_head:
            raise BadValue("n_head", self.n_head, f"must divide n_embd={self.n_embd}")

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.n_embd // self.n_head


class Context(NamedTuple):
    """The rows of one pass: where each stands, and which belong together."""

    dims: Dims
    positions: Sequence[int]  # [T] place of each row in its document, from 0
    spans: Spans  # documents, as ranges of the rows of keys


class Cache:
    """The keys and values that one layer has seen of one document: `[t][width]` each."""

    keys: Matrix | None = None
    values: Matrix | None = None

    def append(self, ops: Engine, k: Matrix, v: Matrix) -> tuple[Matrix, Matrix]:
        """All keys and values so far, the new ones last."""
        if self.keys is not None and self.values is not None:
            k, v = ops.concat_rows([self.keys, k]), ops.concat_rows([self.values, v])
        self.keys, self.values = k, v
        return k, v


Caches: TypeAlias = Sequence[Cache | None] | None  # one for each layer, or none at all


class Layer:
    """A part of the model. It computes from its arguments alone.

    What it does must not depend on how often it was called, on a counter or on chance: an engine may
    run its code once and repeat the operations that it asked for, with other tokens.
    """

    def shapes(self, dims: Dims) -> Shapes:
        """The weights that it owns, in the order of the state dict."""
        return {}


class Norm:
    """A normalisation of rows, which stands at several sites of a model."""

    def shapes(self, dims: Dims, site: str) -> Shapes:
        """The weights that it owns at a site such as `norm_attn`, named after it."""
        return {}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError


class Activation:
    """The non-linearity of the MLP."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        """Entry by entry."""
        raise NotImplementedError


class Position(Layer):
    """How a row learns its place: by its embedding, by its queries and keys, or by its scores."""

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        """Token embeddings `[T][n_embd]` with their positions, where these are added."""
        return x

    def rotate(self, ops: Engine, x: Matrix, context: Context) -> Matrix:
        """Queries or keys `[T][heads * head_dim]`, turned by their positions where these rotate."""
        return x

    def bias(self, dims: Dims) -> list[list[float]] | None:
        """`[n_head][distance]`, added to the score of a key so far back; None adds nothing."""
        return None


class Attention(Layer):
    """Mixes the rows of a document, each with those before it."""

    def __call__(
        self,
        ops: Engine,
        w: Weights,
        x: Matrix,
        context: Context,
        at: Position,
        cache: Cache | None,
    ) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`; `at` knows positions, earlier rows come from the cache."""
        raise NotImplementedError


class MLP(Layer):
    """Works on each row alone."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError


class Head(Layer):
    """From the last activations to scores."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        """Logits, `[T][n_embd] -> [T][vocab_size]`."""
        raise NotImplementedError


Sublayer: TypeAlias = Callable[[Matrix], Matrix]  # `[T][n_embd] -> [T][n_embd]`
NormAt: TypeAlias = Callable[[Matrix, str], Matrix]  # the same, told its site


class Block:
    """How attention and MLP, their norms and the residual stream make one layer of the model."""

    def __init__(self, *, residual: float) -> None:
        self.residual = nonnegative("residual", residual)

    def shapes(self, dims: Dims, norm: Norm) -> Shapes:
        """The weights of its norms."""
        return norm.shapes(dims, "norm_attn") | norm.shapes(dims, "norm_mlp")

    def __call__(self, x: Matrix, norm: NormAt, attention: Sublayer, mlp: Sublayer) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError

    def add(self, out: Matrix, x: Matrix) -> Matrix:
        """out + residual * x: a sublayer's output and the residual stream."""
        if self.residual == 0:
            return out
        return out + (x if self.residual == 1 else self.residual * x)


class Init:
    """Initial weights, and where a parametrisation asks for it their share of the learning rate."""

    def __call__(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        """The numbers of a weight `[n_out][n_in]`: gains are 1, biases 0, all others are drawn."""
        if weight.role in ("gain", "bias"):
            return [[float(weight.role == "gain")] * weight.n_in for _ in range(weight.n_out)]
        return self.draw(weight, dims, rng)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        """The numbers of an embedding or a matrix `[n_out][n_in]`."""
        raise NotImplementedError

    def lr_scale(self, weight: Weight, dims: Dims) -> float:
        """What the learning rate is multiplied with for this weight."""
        return 1.0
