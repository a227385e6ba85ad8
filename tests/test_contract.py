"""A variant is one class: parts that the bench has not got, each written here in a few lines, train.

They show that the contracts of layers, optimizers and engines have room for them.
"""

import math
from random import Random
from typing import Any

import pytest
from microgpt.core.model import GPT

from microgpt.core.data import make_corpus
from microgpt.core.engine.base import Engine, Matrix, Rows
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.base import (
    MLP,
    Activation,
    Context,
    Dims,
    Head,
    Init,
    Norm,
    Position,
    Shapes,
    Weights,
)
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.normal import Normal
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Optimizer
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.constant import Constant
from microgpt.core.streams.independent import Independent
from microgpt.core.trainer import Trainer

DOCUMENTS = ["ada", "alan", "grace", "guido"] * 3


class RoPE(Position):
    """Queries and keys turned by their positions (Su et al. 2021, arXiv 2104.09864)."""

    def rotate(self, ops: Engine, x: Matrix, context: Context) -> Matrix:
        dims = context.dims
        half, heads = dims.head_dim // 2, ops.shape(x)[1] // dims.head_dim
        angles = [[t / 10000 ** (i / half) for i in range(half)] for t in context.positions]
        cos = ops.constant([[math.cos(a) for a in row] for row in angles])
        sin = ops.constant([[math.sin(a) for a in row] for row in angles])
        turned = []
        for h in range(heads):
            at = h * dims.head_dim
            a, b = ops.columns(x, at, at + half), ops.columns(x, at + half, at + 2 * half)
            turned.append(ops.add(ops.mul(a, cos), ops.mul(ops.mul(b, sin), -1)))
            turned.append(ops.add(ops.mul(a, sin), ops.mul(b, cos)))
        return ops.concat(turned)


class ALiBi(Position):
    """Scores that fall with distance (Press et al. 2021, arXiv 2108.12409)."""

    def bias(self, dims: Dims) -> list[list[float]]:
        slopes = [2.0 ** (-8 * (h + 1) / dims.n_head) for h in range(dims.n_head)]
        return [[-slope * d for d in range(dims.block_size)] for slope in slopes]


class GroupedQuery(MultiHead):
    """Two query heads share a key and value head (Ainslie et al. 2023, arXiv 2305.13245)."""

    def shapes(self, dims: Dims) -> Shapes:
        shared = (dims.n_embd // 2, dims.n_embd)
        return super().shapes(dims) | {"attn_wk": shared, "attn_wv": shared}


class SwiGLU(MLP):
    """fc2(silu(gate x) * fc1 x) (Shazeer 2020, arXiv 2002.05202)."""

    def shapes(self, dims: Dims) -> Shapes:
        inner = (2 * dims.n_embd, dims.n_embd)
        return {"mlp_gate": inner, "mlp_fc1": inner, "mlp_fc2": inner[::-1]}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, activation: Activation) -> Matrix:
        gate = ops.linear(x, w["mlp_gate"])
        sigmoid = ops.mul(ops.add(ops.tanh(ops.mul(gate, 0.5)), 1.0), 0.5)
        silu = ops.mul(gate, sigmoid)
        return ops.linear(ops.mul(silu, ops.linear(x, w["mlp_fc1"])), w["mlp_fc2"])


class Tied(Head):
    """The embedding is the head (Press & Wolf 2016, arXiv 1608.05859)."""

    def __call__(self, ops: Engine, w: Weights, x: Matrix) -> Matrix:
        return ops.linear(x, w["wte"])


class GainedNorm(RMSNorm):
    """RMSNorm with a gain of its own at every site."""

    def shapes(self, dims: Dims, site: str) -> Shapes:
        return {f"{site}.gain": (1, dims.n_embd)}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return ops.mul(super().__call__(ops, w, x, site), w[f"{site}.gain"])


class MuP(Init):
    """Widths that share a learning rate (Yang et al. 2022, arXiv 2203.03466, table 3)."""

    def draw(self, name: str, n_out: int, n_in: int, rng: Random) -> Rows:
        std = (
            1.0 if name in ("wte", "wpe") else n_in**-0.5 * (n_in**-0.5 if name == "lm_head" else 1)
        )
        return [[rng.gauss(0, std) for _ in range(n_in)] for _ in range(n_out)]

    def lr_scale(self, name: str, n_out: int, n_in: int) -> float:
        return 1.0 if name in ("wte", "wpe") else 8 / n_in


class Lion(Optimizer):
    """The sign of an interpolated momentum (Chen et al. 2023, arXiv 2302.06675)."""

    slots = ("m",)

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        m = self.state["m"][name]
        self.state["m"][name] = [0.99 * a + 0.01 * g for a, g in zip(m, grads)]
        return [p - math.copysign(lr, 0.9 * a + 0.1 * g) for p, a, g in zip(values, m, grads)]


class MatrixNormalised(Optimizer):
    """Uses a weight's shape, as Muon must."""

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        rows, columns = self.shapes[name]
        assert rows * columns == len(values)
        scale = lr / (math.sqrt(math.fsum(g * g for g in grads)) + 1e-12) * rows
        return [p - scale * g for p, g in zip(values, grads)]


def parts(**changes: Any) -> dict[str, Any]:
    return {
        "norm": RMSNorm(eps=1e-5),
        "activation": ReLU(),
        "position": Learned(),
        "attention": MultiHead(),
        "mlp": FeedForward(expansion=2),
        "head": Untied(),
        "init": Normal(std=0.2),
        **changes,
    }


def train(optimizer: Optimizer, **changes: Any) -> Trainer:
    streams = Independent(seed=1)
    corpus = make_corpus(DOCUMENTS, val_fraction=0, split_seed=0, rng=streams("data"))
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 6}
    model = GPT(vocab_size=corpus.tokenizer.vocab_size, **sizes, **parts(**changes))
    return Trainer(
        model=model,
        engine=ScalarEngine(),
        optimizer=optimizer,
        schedule=Constant(warmup_steps=0),
        sampler=Sampler(num_samples=2, temperature=1, top_k=0, top_p=1),
        corpus=corpus,
        streams=streams,
        num_steps=12,
        batch_size=4,
        eval_every=0,
        eval_documents=0,
        stop_after=None,
        checkpoint_every=0,
        log_every=1,
        clip_norm=None,
    )


def falls(trainer: Trainer) -> bool:
    losses: list[float] = []
    trainer.callbacks.append(
        lambda event: losses.append(event.loss) if hasattr(event, "loss") else None
    )
    trainer.run()
    return sum(losses[-3:]) < sum(losses[:3])


VARIANTS = [
    {"position": RoPE()},
    {"position": ALiBi()},
    {"attention": GroupedQuery()},
    {"mlp": SwiGLU()},
    {"head": Tied()},
    {"norm": GainedNorm(eps=1e-5)},
    {"init": MuP()},
]


@pytest.mark.parametrize("change", VARIANTS, ids=lambda c: type(next(iter(c.values()))).__name__)
def test_a_new_part_is_one_class(change: dict[str, Any]) -> None:
    assert falls(train(Adam(lr=0.02, beta1=0.85, beta2=0.99, eps=1e-8), **change))


@pytest.mark.parametrize("optimizer", [Lion(lr=0.01), MatrixNormalised(lr=0.01)])
def test_a_new_optimizer_is_one_class(optimizer: Optimizer) -> None:
    assert falls(train(optimizer))


def test_positions_enter_through_every_hook() -> None:
    """Without positions an order of equal tokens cannot be told; with each hook the logits change."""
    logits = {}
    for position in (Position(), RoPE(), ALiBi()):
        trainer = train(Adam(lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8), position=position)
        ops, tokens = trainer.engine, [0, 1, 0, 2]
        rows = ops.values(trainer.model(ops, trainer.weights, tokens, [(0, 4)]))
        logits[type(position).__name__] = rows[-1]
    assert len({tuple(row) for row in logits.values()}) == 3


def test_a_norm_is_told_its_site() -> None:
    names = train(Adam(lr=0.01, beta1=0.9, beta2=0.99, eps=1e-8), norm=GainedNorm(eps=1e-5)).weights
    assert [n for n in names if n.endswith(".gain")] == [
        "norm_embd.gain",
        "layer0.norm_attn.gain",
        "layer0.norm_mlp.gain",
    ]


def test_norm_has_a_default_without_weights() -> None:
    assert Norm().shapes(None, "norm_embd") == {}  # type: ignore[arg-type]
