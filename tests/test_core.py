"""Tokenizer, data, schedules, optimizers, sampling and the loop, by what their users rely on."""

import gc
import math
from collections.abc import Callable
from random import Random

import pytest

from microgpt.core.check import BadValue
from microgpt.core.data import make_batch
from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine, Value
from microgpt.core.events import Checkpointed, Diverged, Event, Sampled, Stepped
from microgpt.core.optim.sgd import SGD
from microgpt.core.sampling import Sampler
from microgpt.core.streams.independent import Independent
from microgpt.core.streams.single import Single
from microgpt.core.tokenizer import UnknownCharacter
from microgpt.core.trainer import Trainer
from tests.engines import engines
from tests.golden.check import FILES, trainer_of
from tests.models import events_of as told

GOLDEN = {
    "seed": 1,
    "n_embd": 8,
    "n_head": 2,
    "n_layer": 1,
    "block_size": 8,
    "lr": 0.01,
    "temperature": 1.0,
    "samples": [""] * 3,
    "num_steps": 6,
    "steps_run": None,
}


def small(**changes: object) -> Trainer:
    """The original program, tiny; `changes` to any key or part of it by its name."""
    return trainer_of(GOLDEN, **changes)


def evaluated(trainer: Trainer, part: str) -> dict[str, float]:
    """The figures of an evaluation with the weights as they are."""
    return trainer._evaluations(part, {})


# Streams


def test_independent_streams_do_not_disturb_each_other() -> None:
    one, other = Independent(seed=3), Independent(seed=3)
    other("data").random()
    assert one("init/wte").random() == other("init/wte").random()
    assert one("init/wte").random() != one("init/wpe").random()
    assert Random("3/data").random() == one("data").random()


@pytest.mark.parametrize("kind", [Independent, Single])
def test_streams_go_on_from_a_state(kind: type[Independent] | type[Single]) -> None:
    streams = kind(seed=3)
    streams("data").random()
    state = streams.state()
    expected = [streams("data").random() for _ in range(5)]
    fresh = kind(seed=99)
    fresh.restore(state)
    assert [fresh("data").random() for _ in range(5)] == expected


@pytest.mark.parametrize("drawn", [1, 2])  # gauss makes two at a time, and keeps the second
def test_normal_numbers_go_on_from_a_state(drawn: int) -> None:
    streams = Single(seed=3)
    for _ in range(drawn):
        streams("init").gauss()
    state = streams.state()
    assert [len(words) for words in state.values()] == [627 - drawn]
    fresh = Single(seed=99)
    fresh.restore(state)
    assert fresh("init").getstate() == streams("init").getstate()


# Sampling


def choices(sampler: Sampler, logits: list[float], n: int = 400) -> set[int]:
    ops, rng = ScalarEngine(), Random(0)
    return {sampler._choose(ops, ops.constant([logits]), rng) for _ in range(n)}


def test_top_k_and_top_p_leave_out_the_unlikely() -> None:
    logits = [math.log(p) for p in (0.1, 0.5, 0.05, 0.35)]
    common = {"num_samples": 1, "temperature": 1.0}
    assert choices(Sampler(**common, top_k=0, top_p=1.0), logits) == {0, 1, 2, 3}
    assert choices(Sampler(**common, top_k=2, top_p=1.0), logits) == {1, 3}
    assert choices(Sampler(**common, top_k=0, top_p=0.5), logits) == {1}
    assert choices(Sampler(**common, top_k=0, top_p=0.9), logits) == {0, 1, 3}
    assert choices(Sampler(num_samples=1, temperature=0.0, top_k=0, top_p=1.0), logits) == {1}


def test_the_cache_gives_what_a_whole_pass_gives() -> None:
    """To the last bit on the scalar engine, and also where several rows come at once."""
    trainer = small()
    ops, model, tokens = trainer.engine, trainer.model, [3, 1, 4, 1, 5]
    whole = ops.values(model(ops, trainer.weights, tokens, [(0, 5)]))
    caches = model.caches()
    steps = [model(ops, trainer.weights, [t], [(0, i + 1)], caches) for i, t in enumerate(tokens)]
    assert [ops.values(step)[0] for step in steps] == whole
    caches = model.caches()
    model(ops, trainer.weights, tokens[:3], [(0, 3)], caches)
    assert ops.values(model(ops, trainer.weights, tokens[3:], [(0, 5)], caches)) == whole[3:]


def test_a_prompt_begins_every_sample() -> None:
    trainer = small()
    sampler = Sampler(num_samples=5, temperature=1.0, top_k=0, top_p=1.0)
    args = (trainer.model, trainer.engine, trainer.weights, trainer.corpus, Random(0))
    assert all(text.startswith("ada") and len(text) <= 8 for text in sampler.samples(*args, "ada"))
    with pytest.raises(BadValue, match="block_size=8"):
        list(sampler.samples(*args, "adaadaad"))
    with pytest.raises(UnknownCharacter):
        list(sampler.samples(*args, "é"))


# The scalar engine and the loop


def test_gradients_are_slopes() -> None:
    def f(a: Value, b: Value) -> Value:
        return (a * b + a).exp() * b**-1 + (a * a + 1).log() + (b * -1).relu() + a.tanh()

    a, b, h = Value(0.3), Value(-0.7), 1e-6
    f(a, b).backward()
    slope_a = (f(Value(0.3 + h), Value(-0.7)).data - f(Value(0.3 - h), Value(-0.7)).data) / (2 * h)
    slope_b = (f(Value(0.3), Value(-0.7 + h)).data - f(Value(0.3), Value(-0.7 - h)).data) / (2 * h)
    assert (a.grad, b.grad) == (pytest.approx(slope_a, rel=1e-7), pytest.approx(slope_b, rel=1e-7))


def test_a_long_chain_neither_overflows_nor_stays_alive() -> None:
    total = Value(0.0)
    for _ in range(200_000):
        total = total + 1.0
    total.backward()
    gc.collect()
    gc.disable()
    try:
        del total
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_events_in_order() -> None:
    events = told(small(checkpoint_every=4, log_every=3))
    kinds = [type(event) for event in events]
    assert kinds == [Stepped] * 4 + [Checkpointed] + [Stepped] * 2 + [Checkpointed, Sampled]
    recorded = [e.step for e in events if isinstance(e, Stepped) and e.metrics]
    assert recorded == [3, 6]


def test_stop_after_keeps_the_schedule() -> None:
    def rates(trainer: Trainer) -> list[float]:
        return [e.metrics["lr"] for e in told(trainer) if isinstance(e, Stepped) and e.metrics]

    assert rates(small(stop_after=3)) == rates(small())[:3]


def test_going_on_from_a_state_gives_the_same_bits() -> None:
    whole = told(small(checkpoint_every=3))
    state = next(e for e in whole if isinstance(e, Checkpointed))
    resumed = small(checkpoint_every=3)
    resumed.restore(state)
    rest = told(resumed)
    losses = [e.loss for e in whole if isinstance(e, Stepped)]
    assert [e.loss for e in rest if isinstance(e, Stepped)] == losses[3:]
    assert rest[-1] == whole[-1]
    last, again = (next(e for e in es[::-1] if isinstance(e, Checkpointed)) for es in (whole, rest))
    assert (last.weights, last.slots, last.streams) == (again.weights, again.slots, again.streams)


@engines
def test_clipping_scales_the_gradient_to_its_norm(factory: Callable[[], Engine]) -> None:
    moved = []
    for clip_norm in (None, 0.01):
        sgd = SGD(lr=1.0, momentum=0.0)
        trainer = small(engine=factory(), clip_norm=clip_norm, optimizer=sgd, stop_after=1)
        before = trainer.engine.flat(trainer.weights)
        first = next(e for e in told(trainer) if isinstance(e, Stepped))
        after = trainer.engine.flat(trainer.weights)
        pairs = [(a, b) for n in before for a, b in zip(before[n], after[n])]
        length = math.sqrt(math.fsum((a - b) ** 2 for a, b in pairs))
        moved.append((first.metrics["grad_norm"], length))
    assert moved[0][0] == pytest.approx(moved[0][1], rel=1e-9)
    assert moved[1] == pytest.approx((moved[0][0], 0.01), rel=1e-9)


def test_a_norm_is_computed_where_it_is_asked_for() -> None:
    """A step that is not recorded does without, unless gradients are clipped."""
    events = told(small(log_every=2))
    norms = [e.metrics.get("grad_norm") for e in events if isinstance(e, Stepped)]
    assert [norm is not None and norm > 0 for norm in norms] == [False, True] * 3


@engines
def test_batches_of_a_step_are_one_batch(factory: Callable[[], Engine]) -> None:
    """Of documents of unequal lengths: each token counts the same."""
    runs = [
        small(engine=factory(), batch_size=size, accumulate=parts, clip_norm=0.5, stop_after=2)
        for size, parts in ((8, 1), (2, 4), (1, 8))
    ]
    figures = [[e.metrics for e in told(run) if isinstance(e, Stepped)] for run in runs]
    flats = [run.engine.flat(run.weights) for run in runs]
    for other, flat in zip(figures[1:], flats[1:]):
        for ours, theirs in zip(other, figures[0]):
            for name in ("train/loss", "grad_norm"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-12)
        for name, numbers in flats[0].items():
            assert flat[name] == pytest.approx(numbers, rel=1e-10, abs=1e-12)
    assert [run.corpus.tokens(8 * 2 // run.batch_size, run.batch_size, 8) for run in runs] == [
        sum(e.tokens for e in told(small(batch_size=8, stop_after=2)) if isinstance(e, Stepped))
    ] * 3


def held_out(**parts: list[str]) -> Trainer:
    """A trainer whose held-out parts are these documents."""
    trainer = small(eval_documents=2)
    for name, documents in parts.items():
        getattr(trainer.corpus.split, name).extend(documents)
    return trainer


@pytest.mark.parametrize(("part", "name"), [("val", "validation"), ("test", "test")])
def test_held_out_loss_and_bits_per_character_by_hand(part: str, name: str) -> None:
    texts = ["ada", "maximiliana"]
    trainer = held_out(**{name: texts})
    ops, encode = trainer.engine, trainer.corpus.tokenizer.document
    nats = []
    for text in texts:
        batch = make_batch([encode(text)[:9]])
        logits = trainer.model(ops, trainer.weights, batch.tokens, batch.spans)
        nats += [row[0] for row in ops.values(ops.cross_entropy(logits, batch.targets))]
    # ada: 3 characters and the end; maximiliana: cut to 8 characters, its end is not predicted
    assert len(nats) == 4 + 8
    metrics = evaluated(trainer, part)
    assert metrics.keys() == {f"{part}/loss", f"{part}/bpc"}
    assert metrics[f"{part}/loss"] == pytest.approx(sum(nats) / 12)
    assert metrics[f"{part}/bpc"] == pytest.approx(sum(nats) / (math.log(2) * 11))


def test_the_test_part_is_read_whole_and_once_at_the_end() -> None:
    names = ["ada", "alan", "grace", "guido"]
    trainer = held_out(validation=names[:3], test=names)
    trainer.eval_every = 2
    rows = [e.metrics for e in told(trainer) if isinstance(e, Stepped)]
    assert ["val/loss" in row for row in rows] == [False, True] * 3
    assert ["test/loss" in row for row in rows] == [False] * 5 + [True]
    whole = evaluated(held_out(test=names), "test")
    assert whole != evaluated(held_out(test=names[:2]), "test")
    assert evaluated(trainer, "val") == evaluated(
        _with_weights_of(trainer, held_out(validation=names[:2])), "val"
    )


def _with_weights_of(trained: Trainer, fresh: Trainer) -> Trainer:
    fresh.engine.load(fresh.weights, trained.engine.flat(trained.weights))
    return fresh


def test_no_held_out_documents_no_figures() -> None:
    rows = [e.metrics for e in told(small()) if isinstance(e, Stepped)]
    assert not any(name.startswith(("val/", "test/")) for row in rows for name in row)


def test_the_first_loss_that_is_not_finite_ends_the_run() -> None:
    trainer = small()
    flat = trainer.engine.flat(trainer.weights)
    flat["wte"][trainer.corpus.tokenizer.bos * 8] = math.nan
    trainer.engine.load(trainer.weights, flat)
    events: list[Event] = []
    trainer.callbacks.append(events.append)
    with pytest.raises(Diverged, match="step 1: train/loss is nan"):
        trainer.run()
    assert [type(e) for e in events] == [Stepped]
    assert math.isnan(events[0].metrics["train/loss"])  # type: ignore[union-attr]


def test_a_last_update_that_blows_the_weights_up_ends_the_run() -> None:
    trainer = small(temperature=0.0)
    events: list[Event] = []

    def last_rate(event: Event) -> None:
        events.append(event)
        if trainer.step == trainer.last_step - 1:
            trainer.optimizer.lr = math.inf

    trainer.callbacks.append(last_rate)
    with pytest.raises(Diverged, match=f"step {trainer.last_step}: the update left wte with"):
        trainer.run()
    assert all(math.isfinite(event.loss) for event in events if isinstance(event, Stepped))


def test_an_interrupt_keeps_the_state() -> None:
    trainer = small(checkpoint_every=100)
    trainer.callbacks.append(lambda event: trainer.interrupt() if trainer.step == 2 else None)
    events = told(trainer)
    assert [type(e) for e in events] == [Stepped, Stepped, Checkpointed]


def test_the_golden_files_are_read() -> None:
    assert {file.stem for file in FILES} >= {"default", "n_layer-2"}
