"""The interfaces of the parts of a model.

A layer declares its weights with `shapes`, and computes with the operations of an engine. It holds
hyperparameters and no weights: these are passed to each call, so one object serves all blocks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple, TypeAlias

from microgpt.core.check import BadValue, integer, nonnegative
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.engine.shapes import Rows, Spans
from microgpt.core.weight import Weight

Shapes: TypeAlias = dict[str, Weight]


@dataclass(frozen=True)
class Dims:
    """The sizes of a model, named as in GPT-2's code. Raises BadValue."""

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
        """The width of one head."""
        return self.n_embd // self.n_head


class Cache:
    """The KV cache of one layer for one document: `[t][width]` each."""

    keys: Matrix | None = None
    values: Matrix | None = None

    def append(self, ops: Engine, k: Matrix, v: Matrix) -> tuple[Matrix, Matrix]:
        """Appends keys and values; returns all so far."""
        if self.keys is not None and self.values is not None:
            k, v = ops.concat_rows([self.keys, k]), ops.concat_rows([self.values, v])
        self.keys, self.values = k, v
        return k, v


Caches: TypeAlias = Sequence[Cache | None] | None  # one per layer


class Layer:
    """A part of the model that may have weights. It computes from its arguments alone.

    Its operations must not depend on counters or chance: an engine may run its code once and replay
    the operations with other tokens.
    """

    present: ClassVar[bool] = True  # False: the blocks omit it, with its norms

    def shapes(self, dims: Dims) -> Shapes:
        """Its weights by name, in the order of the state dict.

        Raises BadValue, with a key relative to `model`, for sizes that it cannot have.
        """
        return {}


def project(ops: Engine, w: Weights, name: str, x: Matrix) -> Matrix:
    """x times the weight `name`, transposed, plus the bias `<name>.bias` if there is one."""
    out, bias = ops.linear(x, w[name]), w.get(f"{name}.bias")
    return out if bias is None else out + bias


class Norm:
    """A normalisation of rows, used at several sites of a model."""

    def shapes(self, dims: Dims, site: str) -> Shapes:
        """Its weights at a site such as `norm_attn`, whose name is their prefix."""
        return {}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError


class Context(NamedTuple):
    """What all layers know of one forward pass: positions and documents of its rows, and the sizes.

    norm_qk  the norm of each head's queries and keys; None for none
    scale    the factor of the attention scores; None for 1 / sqrt(head_dim)
    """

    dims: Dims
    positions: Sequence[int]  # [T] position of each row in its document, from 0
    spans: Spans  # (start, stop) of each document in the rows of keys
    norm_qk: Norm | None = None
    scale: float | None = None


class Activation:
    """The non-linearity of the MLP."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        """Elementwise: `[T][n] -> [T][n]`."""
        raise NotImplementedError


class Position(Layer):
    """A position encoding: in the embeddings, in queries and keys, or as a bias of the scores."""

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        """Encodes positions in the token embeddings `[T][n_embd]`; by default unchanged."""
        return x

    def rotate(self, ops: Engine, x: Matrix, context: Context) -> Matrix:
        """Encodes positions in queries or keys `[T][heads * head_dim]`; by default unchanged."""
        return x

    def bias(self, dims: Dims) -> list[list[float]] | None:
        """`[n_head][distance]`, added to the score of a key `distance` rows back; None for no bias."""
        return None


class Attention(Layer):
    """Causal attention within each document."""

    def __call__(
        self,
        ops: Engine,
        w: Weights,
        x: Matrix,
        context: Context,
        at: Position,
        cache: Cache | None,
    ) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`; `at` encodes positions, `cache` holds earlier keys and values."""
        raise NotImplementedError


class MLP(Layer):
    """A layer on each row independently."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError


class Head(Layer):
    """The output layer."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        """Logits, `[T][n_embd] -> [T][vocab_size]`."""
        raise NotImplementedError


Sublayer: TypeAlias = Callable[[Matrix], Matrix]  # `[T][n_embd] -> [T][n_embd]`
NormAt: TypeAlias = Callable[[Matrix, str], Matrix]  # (x, site) -> x normalised


class Block:
    """One block of the model: its sublayers `attn` and `mlp`, their norms and the residual stream.

    `residual` is the factor of the residual stream: 1 is the usual sum, 0 drops it.
    """

    def __init__(self, *, residual: float) -> None:
        self.residual = nonnegative("residual", residual)

    def sites(self, sublayers: Sequence[str]) -> list[str]:
        """The sites of its norms, given the sublayers that are present."""
        return [f"norm_{name}" for name in sublayers]

    def __call__(self, x: Matrix, norm: NormAt, sublayers: Mapping[str, Sublayer]) -> Matrix:
        """`[T][n_embd] -> [T][n_embd]`; by default one sublayer after the other."""
        for name, sublayer in sublayers.items():
            x = self.around(sublayer, x, norm, f"norm_{name}")
        return x

    def around(self, sublayer: Sublayer, x: Matrix, norm: NormAt, site: str) -> Matrix:
        """One sublayer with its norm and the residual stream: `[T][n_embd] -> [T][n_embd]`."""
        raise NotImplementedError

    def add(self, out: Matrix, x: Matrix) -> Matrix:
        """out + residual * x, where `out` is a sublayer's output and `x` the residual stream."""
        if self.residual == 0:
            return out
        return out + (x if self.residual == 1 else self.residual * x)


class Init:
    """An initialisation of weights; with the scales of a parametrisation such as muP."""

    def __call__(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        """Initial values `[n_out][n_in]`: gains are 1, biases 0, all others are drawn."""
        if weight.role in ("gain", "bias"):
            return [[float(weight.role == "gain")] * weight.n_in for _ in range(weight.n_out)]
        return self.draw(weight, dims, rng)

    def draw(self, weight: Weight, dims: Dims, rng: Random) -> Rows:
        """Initial values `[n_out][n_in]` of an embedding or a matrix."""
        raise NotImplementedError

    def lr_scale(self, weight: Weight, dims: Dims) -> float:
        """The factor of the learning rate for this weight."""
        return 1.0

    def attention_scale(self, dims: Dims) -> float | None:
        """The factor of the attention scores; None for 1 / sqrt(head_dim)."""
        return None

    def output_scale(self, dims: Dims) -> float:
        """The factor of the head's input, and so of the logits of a linear head."""
        return 1.0
