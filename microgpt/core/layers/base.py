"""What a layer is given and what it may own.

A layer names the weights that it owns with their shapes, and computes rows from rows with the
operations of the engine. It holds its hyperparameters and no numbers, so one layer serves all blocks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from microgpt.core.check import BadValue, integer
from microgpt.core.engine.base import Engine, Matrix, Rows, Spans

Weights: TypeAlias = Mapping[str, Matrix]
Shapes: TypeAlias = dict[str, tuple[int, int]]  # name -> (n_out, n_in)


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True)
class Context:
    """The rows of one pass: where each stands, and which belong together."""

    dims: Dims
    positions: Sequence[int]  # [T] place of each row in its document, from 0
    spans: Spans  # documents, as ranges of the rows of keys


class Cache:
    """The keys and values that one layer has seen of one document: `[t][width]` each."""

    keys: Matrix = None
    values: Matrix = None

    def append(self, ops: Engine, k: Matrix, v: Matrix) -> tuple[Matrix, Matrix]:
        """All keys and values so far, the new ones last."""
        self.keys = k if self.keys is None else ops.stack([self.keys, k])
        self.values = v if self.values is None else ops.stack([self.values, v])
        return self.keys, self.values


Caches: TypeAlias = Sequence[Cache] | None  # one for each layer, or none at all


class Layer:
    """A part of the model."""

    def shapes(self, dims: Dims) -> Shapes:
        """The weights that it owns, in the order of the state dict."""
        return {}


class Norm:
    """Stands at the sites `norm_embd`, `norm_attn` and `norm_mlp`: after the embeddings, before a block."""

    def shapes(self, dims: Dims, site: str) -> Shapes:
        """The weights that it owns at this site, named after it."""
        return {}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError


class Activation:
    """The non-linearity of the feed-forward block."""

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


class Init:
    """Initial weights, and where a parametrisation asks for it their share of the learning rate."""

    def draw(self, name: str, n_out: int, n_in: int, rng: Random) -> Rows:
        """The numbers of weight `name`, `[n_out][n_in]`."""
        raise NotImplementedError

    def lr_scale(self, name: str, n_out: int, n_in: int) -> float:
        """What the learning rate is multiplied with for this weight."""
        return 1.0
