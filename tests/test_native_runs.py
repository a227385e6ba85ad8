"""Whole runs on the native engine: the vector engine's figures to the last bit, replayed or not."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.events import Checkpointed, Diverged, Event, Sampled, Stepped
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.base import Activation, Context, Position, Weights
from microgpt.core.layers.block.post_norm import PostNorm
from microgpt.core.layers.init.zero_projections import ZeroProjections
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.norm.rmsnorm_gain import RMSNormGain
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.loss.label_smoothing import LabelSmoothing
from microgpt.core.loss.z_loss import ZLoss
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer, Slots
from microgpt.core.optim.lion import Lion
from microgpt.core.optim.muon import Muon
from microgpt.core.optim.sgd import SGD
from microgpt.core.trainer import Trainer
from microgpt.core.weight import Weight
from microgpt.native import NativeEngine
from microgpt.native.library import compiler
from microgpt.native.replay import AGAIN, Program
from microgpt.run.folder import RunFolder
from microgpt.run.identity import parameters_sha256
from microgpt.vector.engine import VectorEngine
from tests.models import ADAM, events_of, losses_of, trainer_of
from tests.running import train_as
from tests.test_contract import ALiBi, GroupedQuery, RoPE, SwiGLU, Tied

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")

MUON = {"lr": 0.02, "momentum": 0.9, "ns_steps": 5, "weight_decay": 0.01, "adam_lr": 0.01}
BETAS = {"beta1": 0.9, "beta2": 0.99}
# Made anew for each run: an optimizer has state.
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "default": dict,
    "batches": lambda: {"batch_size": 3},
    "accumulated": lambda: {"batch_size": 2, "accumulate": 3},
    "clipped": lambda: {"clip_norm": 0.5},
    "clipped and accumulated": lambda: {"clip_norm": 0.1, "accumulate": 2},
    "three layers": lambda: {"n_layer": 3, "n_head": 3, "n_embd": 21},
    "wide": lambda: {"n_embd": 40, "n_head": 5, "num_steps": 6},
    "final norm": lambda: {"norm_final": True, "norm_embd": False},
    "gelu": lambda: {"activation": GELU()},
    "layernorm": lambda: {"norm": LayerNorm(eps=1e-5)},
    "gains": lambda: {"norm": RMSNormGain(eps=1e-5)},
    "no norm": lambda: {"norm": NoNorm()},
    "no position": lambda: {"position": NoPosition()},
    "rope": lambda: {"position": RoPE()},
    "alibi": lambda: {"position": ALiBi(), "batch_size": 2},
    "grouped queries": lambda: {"attention": GroupedQuery(), "n_head": 4, "batch_size": 2},
    "swiglu": lambda: {"mlp": SwiGLU()},
    "tied": lambda: {"head": Tied()},
    "post-norm": lambda: {"block": PostNorm(residual=1.5)},
    "zero projections": lambda: {"init": ZeroProjections(std=0.08)},
    "label smoothing": lambda: {"loss": LabelSmoothing(smoothing=0.1)},
    "z-loss": lambda: {"loss": ZLoss(weight=0.01), "accumulate": 2},
    "adamw": lambda: {"optimizer": AdamW(**ADAM, weight_decay=0.1)},
    "sgd": lambda: {"optimizer": SGD(lr=0.1, momentum=0.9), "clip_norm": 0.5},
    "lion": lambda: {"optimizer": Lion(lr=0.001, **BETAS, weight_decay=0.1)},
    "muon": lambda: {"optimizer": Muon(**MUON, **BETAS, eps=1e-8)},
    "top-k": lambda: {"top_k": 3, "num_samples": 5},
    "top-p": lambda: {"top_p": 0.8, "temperature": 1.2},
}
# What 1,000 steps on the names leave with seed 42, on the vector engine from the beginning.
DEFAULT = "7ae9c8603c0ed6e7736b8efc1a0f1f41c84c784be8e208d71392bd9c3f5ac199"
WHOLE = {"num_steps": 24, "log_every": 3, "eval_every": 8, "checkpoint_every": 12}
PARTS = {"val_fraction": 0.2, "test_fraction": 0.2, "eval_documents": 6}


def story(trainer: Trainer) -> list[object]:
    """All figures, samples, and states of a run, but what a clock measured; `repr` has every bit."""

    def told(event: Event) -> object:
        if isinstance(event, Stepped):
            figures = {k: v for k, v in event.metrics.items() if not k.startswith("cost/")}
            return event.step, event.loss, event.tokens, figures
        if isinstance(event, Checkpointed):
            return event.step, event.weights, event.slots, event.streams
        return list(event.samples) if isinstance(event, Sampled) else None

    events = [told(event) for event in events_of(trainer)]
    return [repr(part) for part in (*events, trainer.engine.flat(trainer.weights))]


def replayed(engine: NativeEngine) -> int:
    """How many programs are ready to be replayed."""
    programs = engine._replays._programs.values()
    return sum(isinstance(program, Program) and program.ready for program in programs)


@pytest.mark.parametrize("name", OPTIONS)
def test_figures_samples_and_states_are_the_vector_engines(name: str) -> None:
    native = trainer_of(NativeEngine(), **WHOLE | PARTS | OPTIONS[name]())
    assert story(native) == story(trainer_of(VectorEngine(), **WHOLE | PARTS | OPTIONS[name]()))


@pytest.mark.parametrize("seed", range(6))
def test_models_of_any_shape(seed: int) -> None:
    rng = Random(seed)
    n_head = rng.choice([1, 2, 3, 4])
    shape = {
        "n_layer": rng.choice([0, 1, 2]),
        "n_head": n_head,
        "n_embd": n_head * rng.choice([1, 2, 3, 4, 5, 8, 11]),
        "block_size": rng.choice([1, 3, 8, 16]),
        "batch_size": rng.choice([1, 2, 5]),
        "accumulate": rng.choice([1, 2]),
        "num_steps": 10,
    }
    native, vector = (story(trainer_of(ops, **shape)) for ops in (NativeEngine(), VectorEngine()))
    assert native == vector


@pytest.mark.slow
def test_a_thousand_steps_leave_the_vector_engines_parameters() -> None:
    sizes = {"n_embd": 16, "n_head": 4, "block_size": 16, "num_steps": 1000}
    found = []
    for engine in (NativeEngine(), VectorEngine()):
        trainer = trainer_of(engine, **sizes)
        trainer.run()
        found.append(parameters_sha256(trainer.engine.flat(trainer.weights)))
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_default_run_has_the_parameters_that_it_always_had(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "default"
    words = "progress=false", "engine=native", "tracking=none"
    assert train_as(tmp_path, folder, *words) == 0
    assert RunFolder(folder).info["parameters_sha256"] == DEFAULT


class Cubic(Optimizer):
    """Multiplies by the gradient itself, whose transpose the engine may keep."""

    elementwise = False

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return p - lr * (g + ops.linear(ops.linear(g, g), ops.transpose(g)))


def test_an_update_rule_that_multiplies_by_gradients() -> None:
    found, expected = (
        losses_of(trainer_of(ops, optimizer=Cubic(lr=0.1), num_steps=60, num_samples=0))
        for ops in (NativeEngine(), VectorEngine())
    )
    assert found == expected


# Between the engines


@pytest.mark.parametrize("engines", [(NativeEngine, VectorEngine), (VectorEngine, NativeEngine)])
def test_a_run_begun_on_one_engine_goes_on_on_the_other(
    engines: tuple[type[Engine], type[Engine]],
) -> None:
    whole = trainer_of(NativeEngine(), num_steps=20)
    whole.run()
    first = trainer_of(engines[0](), num_steps=20, stop_after=10, checkpoint_every=10)
    (kept,) = [event for event in events_of(first) if isinstance(event, Checkpointed)]
    second = trainer_of(engines[1](), num_steps=20)
    second.restore(kept)
    second.run()
    assert second.engine.flat(second.weights) == whole.engine.flat(whole.weights)


@pytest.mark.parametrize("changes", [{"norm": NoNorm()}, {}], ids=["no norm", "default"])
def test_a_run_diverges_at_the_same_step_with_the_same_words(changes: dict[str, Any]) -> None:
    words = []
    for engine in (NativeEngine(), VectorEngine()):
        trainer = trainer_of(engine, num_steps=20, **changes)
        trainer.optimizer.lr = 1e200
        with pytest.raises(Diverged) as caught:
            trainer.run()
        words.append((trainer.step, str(caught.value)))
    assert words[0] == words[1]


# Replays


def test_a_shape_is_replayed_from_its_third_batch_on() -> None:
    engine = NativeEngine()
    calls = []

    class Counting(GELU):
        def __call__(self, ops: Engine, x: Matrix) -> Matrix:
            calls.append(ops.shape(x))
            return super().__call__(ops, x)

    trainer = trainer_of(engine, num_steps=60, activation=Counting(), num_samples=0)
    trainer.run()
    lengths = len(set(calls))
    assert replayed(engine) == lengths
    assert len(calls) <= 3 * lengths  # a document that is met twice in a row proves nothing


class FirstToken(Position):
    """Adds something that depends on token values, which the engine is not told of."""

    def embed(self, ops: Engine, w: Weights, x: Matrix, context: Context) -> Matrix:
        return x * (1.5 if ops.values(x)[-1][0] > 0 else 1.0)


class Dropout(Activation):
    """Other constants at every call."""

    def __init__(self) -> None:
        self.rng = Random(0)

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        rows, n = ops.shape(x)
        keep = [[2.0 * (self.rng.random() < 0.5) for _ in range(n)] for _ in range(rows)]
        return ops.relu(x) * ops.constant(keep)


class Warming(Activation):
    """A number that grows from call to call."""

    calls = 0

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        self.calls += 1
        return ops.relu(x) * (self.calls / 100)


class Remembering(Activation):
    """A matrix of the call before enters."""

    last: Matrix | None = None

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        before = self.last
        self.last = ops.detached(ops.mean(ops.row_sum(x)))
        return ops.relu(x) if before is None else ops.relu(x) + before


class Counted(Activation):
    """A stored number changes with every call."""

    count: Matrix | None = None

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        self.count = ops.constant([[0.0]]) if self.count is None else self.count
        ops.assign(self.count, self.count + 0.01)
        return ops.relu(x) + self.count


@pytest.mark.parametrize("make", [Dropout, Warming, Remembering, Counted])
def test_a_layer_that_is_not_the_same_each_time_is_not_replayed(make: type[Activation]) -> None:
    engine, vector = NativeEngine(), VectorEngine()
    steps = {"num_steps": 40, "num_samples": 0}
    assert losses_of(trainer_of(engine, activation=make(), **steps)) == losses_of(
        trainer_of(vector, activation=make(), **steps)
    )
    assert not replayed(engine)


class Seldom(Activation):
    """Two passes of a shape are often the same."""

    def __init__(self) -> None:
        self.rng = Random(0)

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return x if self.rng.random() < 0.25 else ops.relu(x)


def test_a_layer_that_seldom_does_something_else_is_not_replayed_in_silence() -> None:
    trainer = trainer_of(NativeEngine(), num_steps=2000, activation=Seldom(), num_samples=0)
    with pytest.raises(RuntimeError, match="does not do the same in every pass"):
        trainer.run()


def test_what_is_compared_again_is_what_is_replayed() -> None:
    """Long enough for several comparisons of every shape."""
    steps = {"num_steps": 400, "num_samples": 0, "n_embd": 4, "block_size": 3}
    engine = NativeEngine()
    losses = losses_of(trainer_of(engine, **steps))
    assert losses == losses_of(trainer_of(VectorEngine(), **steps))
    programs = engine._replays._programs.values()
    assert any(program is not None and program.next > 2 * AGAIN for program in programs)


def test_a_layer_that_reads_numbers_is_not_replayed() -> None:
    engine, steps = NativeEngine(), {"num_steps": 40, "num_samples": 0}
    native = losses_of(trainer_of(engine, position=FirstToken(), **steps))
    assert native == losses_of(trainer_of(VectorEngine(), position=FirstToken(), **steps))
    assert not replayed(engine)


@pytest.mark.parametrize(
    "factor",
    [
        lambda tokens: 1.0 + (7 in tokens),
        lambda tokens: 1.0 + tokens[-1] / 100,
        lambda tokens: 1.0 + max(tokens) / 100,
        lambda tokens: 1.0 + len(set(tokens)) / 100,
        lambda tokens: 1.0 + (list(tokens)[1:2] == [3]),
        lambda tokens: 1.0 + sorted(tokens).index(tokens[0]) / 100,
    ],
)
def test_a_pass_that_reads_tokens_itself_is_not_replayed(
    factor: Callable[[list[int]], float],
) -> None:
    def losses(engine: Engine) -> list[float]:
        trainer = trainer_of(engine, num_steps=40, num_samples=0)
        forward = trainer._forward

        def reading(ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
            objective, loss = forward(ops, w, batch)
            return objective * factor(batch.tokens), loss

        trainer._forward = reading  # type: ignore[method-assign]
        return losses_of(trainer)

    engine = NativeEngine()
    assert losses(engine) == losses(VectorEngine())
    assert not replayed(engine)


def test_a_pass_that_only_counts_tokens_or_changes_their_order_by_ids_is_replayed() -> None:
    engine = NativeEngine()
    trainer = trainer_of(engine, num_steps=40, num_samples=0)
    forward = trainer._forward

    def counting(ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
        objective, loss = forward(ops, w, batch)
        return objective * (1 / len(batch.tokens)), loss

    trainer._forward = counting  # type: ignore[method-assign]
    losses_of(trainer)
    assert replayed(engine)


def test_other_weights_are_never_replayed_with_the_old_ones() -> None:
    engine = NativeEngine()
    trainer = trainer_of(engine, num_steps=30, num_samples=0)
    trainer.run()
    batch = trainer.corpus.batch(0, 1, 8)
    other = engine.parameters({n: engine.values(w) for n, w in trainer.weights.items()})
    engine.load(other, {name: [0.0] * len(x) for name, x in engine.flat(other).items()})
    loss, _ = engine.step(
        trainer._forward, other, [batch], trainer.optimizer, lr=0.0, clip_norm=None, measured=False
    )
    assert loss == pytest.approx(3.29, abs=0.1)  # ln of the vocabulary's size: nothing is known


def test_a_pass_that_failed_leaves_nothing_behind() -> None:
    trainer = trainer_of(NativeEngine(), num_steps=10, num_samples=0)
    expected = losses_of(trainer_of(VectorEngine(), num_steps=10, num_samples=0))
    forward, failed = trainer._forward, []

    def failing(ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
        if len(failed) < 2:
            failed.append(ops.gather(w["wte"], [999]))
            raise KeyError("a layer's own")
        return forward(ops, w, batch)

    trainer._forward = failing  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(KeyError):
            trainer.train_step()
        failed[-1] = None
        trainer.step = 0
    assert losses_of(trainer) == expected


def test_steps_of_weights_that_were_made_apart_and_are_not_all_used() -> None:
    """Each gradient is that of its own step, be its weight used, left out or used again."""

    def trained(ops: Engine) -> list[str]:
        draw = Random(1)
        rows = {name: [[draw.random() for _ in range(3)] for _ in range(3)] for name in "abcd"}
        weights = {name: ops.parameter(rows[name]) for name in "ac"}
        weights |= ops.parameters({name: rows[name] for name in "bd"})
        optimizer = SGD(lr=0.1, momentum=0.9)
        shapes = {name: Weight(3, 3, "matrix") for name in weights}
        optimizer.prepare(ops, weights, shapes, dict.fromkeys(weights, 1.0))
        told = []
        for used in ("abcd", "ab", "cd", "a", "d", "abcd"):

            def forward(ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
                x = ops.constant([[1.0, 2.0, 3.0]])
                for name in used:  # noqa: B023
                    x = ops.linear(ops.tanh(x), w[name])
                return ops.mean(ops.transpose(x)), ops.mean(ops.transpose(x))

            batch = Batch([0], [0], [(0, 1)])
            for _ in range(3):
                figures = {"lr": 0.1, "clip_norm": None, "measured": True}
                told.append(repr(ops.step(forward, weights, [batch], optimizer, **figures)))
        return [*told, repr(ops.flat(weights))]

    assert trained(NativeEngine()) == trained(VectorEngine())
