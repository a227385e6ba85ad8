"""Steps that the native engine replays: only what does the same in every pass, with the same figures."""

from collections.abc import Callable
from random import Random

import pytest

from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.base import Activation, Context, Position, Weights
from microgpt.core.optim.sgd import SGD
from microgpt.core.weight import Weight
from microgpt.native import NativeEngine, replay
from microgpt.native.library import compiler
from microgpt.native.replay import AGAIN, Program
from microgpt.vector.engine import VectorEngine
from tests.models import losses_of, trainer_of

pytestmark = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


def replayed(engine: NativeEngine) -> int:
    """How many programs are ready to be replayed."""
    programs = engine._replays._programs.values()
    return sum(isinstance(program, Program) and program.ready for program in programs)


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


class Measured(Activation):
    """The norm is read in the middle of the pass, and mostly changes nothing."""

    def __call__(self, ops: Engine, x: Matrix) -> Matrix:
        return ops.relu(x) * max(1.0, ops.global_norm({"x": x}) / 1e6)


@pytest.mark.parametrize("make", [Dropout, Warming, Remembering, Counted, Measured])
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
        lambda tokens: float((tokens.reverse(), tokens.reverse()) == (None, None)),
        lambda tokens: float(tokens.extend([]) is None),
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


@pytest.mark.parametrize(("batch_size", "most"), [(1, 12), (8, 3)])
def test_programs_are_kept_where_shapes_come_again(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, most: int
) -> None:
    monkeypatch.setattr(replay, "MOST", most)
    engine, other = NativeEngine(), VectorEngine()
    options = {"num_steps": 60, "num_samples": 0, "batch_size": batch_size}
    assert losses_of(trainer_of(engine, **options)) == losses_of(trainer_of(other, **options))
    assert bool(engine._replays._programs) == (batch_size == 1)


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
