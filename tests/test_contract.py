"""A variant is one class: parts that the bench has not got, each written here in a few lines, train.

They show that the contracts of layers, optimizers and engines have room for them.
"""

from collections.abc import Callable
from typing import Any

import pytest

from microgpt.core.check import BadValue
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.attention.none import NoAttention
from microgpt.core.layers.base import (
    Dims,
    Norm,
    Position,
    Shapes,
    Weights,
)
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.init.normal import Normal
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.mlp.none import NoMLP
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.alibi import ALiBi
from microgpt.core.layers.position.rope import RoPE
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.base import Optimizer, Slots, Update
from microgpt.core.optim.sgd import SGD
from microgpt.core.schedule.constant import Constant
from microgpt.core.trainer import Trainer
from microgpt.core.weight import Weight
from tests.engines import ENGINES, engines
from tests.models import ADAM, losses_of, trainer_of

DOCUMENTS = ["ada", "alan", "grace", "guido"] * 3


class Biased(RMSNorm):
    """RMSNorm with a gain and a bias of its own at every site."""

    def shapes(self, dims: Dims, site: str) -> Shapes:
        row = (1, dims.n_embd)
        return {f"{site}.gain": Weight(*row, "gain"), f"{site}.bias": Weight(*row, "bias")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        return super().__call__(ops, w, x, site) * w[f"{site}.gain"] + w[f"{site}.bias"]


class Scaled(Normal):
    """Attention scores and logits have factors of the initialisation's."""

    def attention_scale(self, dims: Dims) -> float:
        return 1 / dims.head_dim

    def output_scale(self, dims: Dims) -> float:
        return 0.5


class Normalised(Optimizer):
    """Uses a weight's shape, and all of its gradient at once."""

    elementwise = False

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return p - lr * ops.shape(p)[0] * g / (ops.global_norm({"": g}) + 1e-12)


class DecayOfMatrices(SGD):
    """Weights decay by their role, and those have a slot that the others have not."""

    def update_of(self, weight: Weight) -> Update:
        return self.decayed if weight.role == "matrix" else self.update

    def slots_of(self, weight: Weight) -> tuple[str, ...]:
        return ("m", "before") if weight.role == "matrix" else ("m",)

    def decayed(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        slots["before"] = p
        return self.update(ops, p * (1 - lr * 0.1), g, slots, lr)


class Momentum(Optimizer):
    """Polyak's heavy ball by the last two weights, p += -lr g + 0.5 (p - before)."""

    slots = ("before", "seen")

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        before, seen = slots["before"], slots["seen"]
        slots["before"], slots["seen"] = p, ops.sign(seen + 1)
        return p - lr * g + 0.5 * ops.sign(seen) * (p - before)


def train(engine: Engine, optimizer: Optimizer | None = None, **changes: Any) -> Trainer:
    given: dict[str, Any] = {
        "documents": DOCUMENTS,
        "mlp": FeedForward(expansion=2),
        "init": Normal(std=0.2),
        "optimizer": optimizer or Adam(**ADAM | {"lr": 0.02}),
        "schedule": Constant(warmup_steps=0),
    }
    sizes = {"seed": 1, "block_size": 6, "num_steps": 12, "batch_size": 4}
    return trainer_of(engine, **given | sizes | {"temperature": 1.0} | changes)


VARIANTS = [
    {"norm": Biased(eps=1e-5)},
    {"init": Scaled(std=0.2)},
    {"attention": NoAttention(), "norm": Biased(eps=1e-5)},
    {"norm_qk": True, "norm": Biased(eps=1e-5)},
]
OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "Normalised": lambda: Normalised(lr=0.01),
    "DecayOfMatrices": lambda: DecayOfMatrices(lr=0.3, momentum=0.5),
    "Momentum": lambda: Momentum(lr=0.3),
}


def check(makes: Callable[[Engine], Trainer]) -> None:
    """It learns, and every engine says the same of it."""
    trainers = {name: makes(make()) for name, make in ENGINES.items()}
    losses = {name: losses_of(trainer) for name, trainer in trainers.items()}
    reference = losses["scalar"]
    assert sum(reference[-3:]) < sum(reference[:3])
    for name, found in losses.items():
        assert found == pytest.approx(reference, rel=1e-9), name
    states = {name: trainer.optimizer.state for name, trainer in trainers.items()}
    for slot, numbers in states["scalar"].items():
        for name, trainer in trainers.items():
            found = trainer.engine.flat(states[name][slot])
            for weight, flat in trainers["scalar"].engine.flat(numbers).items():
                assert found[weight] == pytest.approx(flat, rel=1e-6, abs=1e-9), (name, slot)


@pytest.mark.parametrize(
    "change", VARIANTS, ids=lambda c: "-".join(f"{k}={type(v).__name__}" for k, v in c.items())
)
def test_a_new_part_is_one_class(change: dict[str, Any]) -> None:
    check(lambda engine: train(engine, **change))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_new_optimizer_is_one_class(name: str) -> None:
    check(lambda engine: train(engine, OPTIMIZERS[name]()))


@engines
def test_a_rule_by_role_is_never_run_on_all_weights_in_one_row(
    factory: Callable[[], Engine],
) -> None:
    trainer = train(factory(), DecayOfMatrices(lr=0.3, momentum=0.0), num_steps=1)
    before = trainer.engine.flat(trainer.weights)
    trainer.run()
    kept = trainer.engine.flat(trainer.optimizer.state["before"])
    matrices = [name for name, weight in trainer.shapes.items() if weight.role == "matrix"]
    assert kept == {name: before[name] for name in matrices}
    assert len(matrices) == 4


def test_positions_enter_through_every_hook() -> None:
    """Without positions an order of equal tokens cannot be told; with each hook the logits change."""
    logits = {}
    for position in (Position(), RoPE(base=10000.0), ALiBi()):
        trainer = train(ENGINES["scalar"](), position=position)
        ops, tokens = trainer.engine, [0, 1, 0, 2]
        rows = ops.values(trainer.model(ops, trainer.weights, tokens, [(0, 4)]))
        logits[type(position).__name__] = rows[-1]
    assert len({tuple(row) for row in logits.values()}) == 3


@engines
def test_a_bias_that_is_shorter_than_the_document_is_refused(
    factory: Callable[[], Engine],
) -> None:
    class Short(ALiBi):
        def bias(self, dims: Dims) -> list[list[float]]:
            return [row[:2] for row in super().bias(dims)]

    with pytest.raises(ValueError, match="rows of at least"):
        train(factory(), position=Short()).run()


def test_what_is_absent_has_no_norm_and_leaves_the_residual_stream_as_it_is() -> None:
    parts = {"attention": NoAttention(), "mlp": NoMLP(), "norm": Biased(eps=1e-5)}
    for residual in (0.0, 1.0):
        nothing = train(ENGINES["scalar"](), block=PreNorm(residual=residual), **parts)
        assert [name for name in nothing.weights if name.startswith("layer")] == []
        without = train(ENGINES["scalar"](), n_layer=0, norm=Biased(eps=1e-5))
        assert losses_of(nothing) == losses_of(without)
    alone = train(ENGINES["scalar"](), attention=NoAttention(), norm=Biased(eps=1e-5))
    assert {name for name in alone.weights if name.startswith("layer0.norm")} == {
        "layer0.norm_mlp.gain",
        "layer0.norm_mlp.bias",
    }


def test_scales_of_an_initialisation_are_those_of_scores_and_logits() -> None:
    """Equal to weights that are multiplied by them."""
    found = train(ENGINES["scalar"](), init=Scaled(std=0.2))
    plain = train(ENGINES["scalar"](), init=Normal(std=0.2))
    flat = found.engine.flat(found.weights)
    share = (1 / found.model.dims.head_dim) * found.model.dims.head_dim**0.5
    flat["lm_head"] = [0.5 * x for x in flat["lm_head"]]
    flat["layer0.attn_wq"] = [share * x for x in flat["layer0.attn_wq"]]
    plain.engine.load(plain.weights, flat)
    logits = [
        t.engine.values(t.model(t.engine, t.weights, [1, 2, 3, 1], [(0, 4)]))
        for t in (found, plain)
    ]
    for ours, theirs in zip(*logits):
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_queries_and_keys_are_normalised_by_head() -> None:
    """A query that is multiplied by a number attends to the same."""
    run = train(ENGINES["scalar"](), norm_qk=True, norm=RMSNorm(eps=1e-12), init=Normal(std=1.0))
    logits = []
    for factor in (1, 5):
        flat = run.engine.flat(run.weights)
        for name in ("layer0.attn_wq", "layer0.attn_wk"):
            half = len(flat[name]) // 2  # of two heads
            flat[name] = [factor * x for x in flat[name][:half]] + flat[name][half:]
        run.engine.load(run.weights, flat)
        rows = run.engine.values(run.model(run.engine, run.weights, [1, 2, 3, 1], [(0, 4)]))
        logits.append(rows[-1])
    assert logits[0] == pytest.approx(logits[1], rel=1e-6)


def test_there_is_nothing_to_normalise_without_queries_and_keys() -> None:
    with pytest.raises(BadValue, match="norm_qk=True"):
        train(ENGINES["scalar"](), norm_qk=True, attention=NoAttention())


def test_a_norm_is_told_its_site() -> None:
    trainer = train(ENGINES["scalar"](), norm=Biased(eps=1e-5), norm_final=True)
    assert [n for n in trainer.weights if n.endswith(".gain")] == [
        "norm_embd.gain",
        "layer0.norm_attn.gain",
        "layer0.norm_mlp.gain",
        "norm_final.gain",
    ]


def test_norm_has_a_default_without_weights() -> None:
    assert Norm().shapes(None, "norm_embd") == {}  # type: ignore[arg-type]
