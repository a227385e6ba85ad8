"""What every option is held to, alone and combined with others: each check takes a subject.

`APPROX` is far above what the order of additions does to a double in a few steps, and far below what
any difference in meaning does.
"""

import math
from collections.abc import Callable
from random import Random
from typing import get_args

import pytest

from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Weights
from microgpt.core.models.gpt import GPT
from microgpt.core.trainer import Trainer
from microgpt.core.weight import Role
from tests.options.counts import counted
from tests.options.subject import Subject, run

APPROX = 1e-9


def close(found: list[float], expected: list[float], rel: float = APPROX) -> bool:
    """Number by number; where one is small, relative to the largest."""
    tiny = rel * max(1e-3, *map(abs, expected)) if expected else rel
    return found == pytest.approx(expected, rel=rel, abs=tiny)


def the_engines_agree(subject: Subject) -> None:
    """Losses, all other figures, weights and samples; engines with one arithmetic to the last bit."""
    expected, exact = subject.run("scalar"), subject.run("vector")
    assert all(math.isfinite(loss) for loss in expected.losses)
    for name, engine in subject.engines.items():
        found = subject.run(name)
        assert close(found.losses, expected.losses), name
        for ours, theirs in zip(found.metrics, expected.metrics, strict=True):
            assert ours.keys() == theirs.keys()
            assert close(list(ours.values()), list(theirs.values())), name
        for weight, flat in expected.states[-1].weights.items():
            assert close(found.states[-1].weights[weight], flat), (name, weight)
        assert found.samples == expected.samples, name
        if engine.arithmetic == exact.trainer.engine.arithmetic:
            assert found.metrics == exact.metrics
            assert found.states[-1].weights == exact.states[-1].weights
            assert found.states[-1].slots == exact.states[-1].slots


def a_run_learns_something(subject: Subject) -> None:
    """Every part that has weights moves at least one of them; figures of all parts are there."""
    done = subject.run("vector")
    last = done.states[-1].weights
    assert any(last[name] != flat for name, flat in done.initial.items())
    assert {"train/loss", "lr", "grad_norm"} <= done.metrics[-1].keys()
    split = done.trainer.corpus.split
    assert ("val/loss" in done.metrics[-1]) == bool(split.validation)
    assert ("test/loss" in done.metrics[-1]) == bool(split.test)


def logits(trainer: Trainer, w: Weights, batch: Batch) -> list[list[float]]:
    return trainer.engine.values(trainer.model(trainer.engine, w, batch.tokens, batch.spans))


def the_cache_gives_what_a_whole_pass_gives(subject: Subject) -> None:
    """Token by token, and a part of the document at once."""
    start, stop = subject.batch().spans[0]
    tokens = subject.batch().tokens[start:stop]
    for name, ops in subject.engines.items():
        model, w = subject.run(name).trainer.model, subject.constants(ops)
        whole = ops.values(model(ops, w, tokens, [(0, len(tokens))]))
        for first in (1, len(tokens) // 2 + 1):
            caches = model.caches()
            rows = ops.values(model(ops, w, tokens[:first], [(0, first)], caches))
            for t in range(first, len(tokens)):
                rows += ops.values(model(ops, w, [tokens[t]], [(0, t + 1)], caches))
            for ours, theirs in zip(rows, whole, strict=True):
                assert close(ours, theirs, 1e-12), name


def a_batch_is_its_documents_one_by_one(subject: Subject) -> None:
    batch = subject.batch()
    for name, ops in subject.engines.items():
        trainer, w = subject.run(name).trainer, subject.constants(ops)
        whole = logits(trainer, w, batch)
        for start, stop in batch.spans:
            one = Batch(batch.tokens[start:stop], [], [(0, stop - start)])
            for ours, theirs in zip(logits(trainer, w, one), whole[start:stop], strict=True):
                assert close(ours, theirs, 1e-12), name


def no_row_sees_a_later_one(subject: Subject) -> None:
    """A change to the last token of a document leaves all earlier rows as they were, bit for bit."""
    batch = subject.batch()
    for name, ops in subject.engines.items():
        trainer, w = subject.run(name).trainer, subject.constants(ops)
        before = logits(trainer, w, batch)
        for _, stop in batch.spans:
            tokens = list(batch.tokens)
            tokens[stop - 1] = (tokens[stop - 1] + 1) % trainer.model.dims.vocab_size
            after = logits(trainer, w, batch._replace(tokens=tokens))
            same = [ours == theirs for ours, theirs in zip(before, after)]
            assert all(same[: stop - 1] + same[stop:]), name
            assert not same[stop - 1], f"{name}: the last row sees its own token"


def objective(trainer: Trainer, rows: dict[str, list[list[float]]], batch: Batch) -> float:
    ops = trainer.engine
    w = {name: ops.constant(numbers) for name, numbers in rows.items()}
    return ops.values(trainer._forward(ops, w, batch)[0])[0][0]


def gradients_are_slopes(subject: Subject) -> None:
    """Of the objective, by two numbers of every weight: the steepest, and one at random."""
    trainer, rows, batch, rng = (
        subject.run("vector").trainer,
        subject.rows(),
        subject.batch(),
        Random(0),
    )
    for name, found in gradients(trainer.engine, trainer, subject, [batch]).items():
        n = len(rows[name][0])
        steepest = max(range(len(found)), key=lambda i: abs(found[i]))
        for at in (steepest, rng.randrange(len(found))):
            row, column = divmod(at, n)
            number, h = rows[name][row][column], 1e-5
            slopes = []
            for step in (h, -h):
                rows[name][row][column] = number + step
                slopes.append(objective(trainer, rows, batch))
            rows[name][row][column] = number
            assert found[at] == pytest.approx((slopes[0] - slopes[1]) / (2 * h), rel=1e-5, abs=1e-8)


def gradients(
    ops: Engine, trainer: Trainer, subject: Subject, batches: list[Batch]
) -> dict[str, list[float]]:
    """Of the mean objective over the tokens of all batches, at the trained weights."""
    w, total = ops.parameters(subject.rows()), sum(len(batch.tokens) for batch in batches)
    for batch in batches:
        ops.backward(trainer._forward(ops, w, batch)[0] * (len(batch.tokens) / total))
    return ops.flat(ops.gradients(w))


def batches_of_a_step_are_one_batch(subject: Subject) -> None:
    """Gradients of two batches of unequal lengths add up to those of one batch.

    The scalar engine, which would take most of the time, adds in combinations with `accumulate`.
    """
    trainer = subject.run("vector").trainer
    parts = [trainer.corpus.batch(number, 1 + number, subject.block_size) for number in range(2)]
    whole, at = Batch([], [], []), 0
    for part in parts:
        whole.tokens.extend(part.tokens)
        whole.targets.extend(part.targets)
        whole.spans.extend((at + start, at + stop) for start, stop in part.spans)
        at += len(part.tokens)
    for name, ops in subject.engines.items():
        if name == "scalar":
            continue
        own = subject.run(name).trainer
        one, two = (gradients(ops, own, subject, batches) for batches in ([whole], parts))
        for weight, flat in one.items():
            assert close(two[weight], flat, 1e-12), (name, weight)


def parameters_are_counted(subject: Subject) -> None:
    """Every weight has a role and the shape it says, and gains and biases begin as such."""
    trainer, flat = subject.run("vector").trainer, subject.run("vector").initial
    model, total = trainer.model, sum(map(len, flat.values()))
    assert {weight.role for weight in trainer.shapes.values()} <= set(get_args(Role))
    assert list(flat) == list(trainer.shapes) == list(model.shapes())
    for name, weight in trainer.shapes.items():
        assert trainer.engine.shape(trainer.weights[name]) == (weight.n_out, weight.n_in)
        assert len(flat[name]) == weight.size > 0
        if weight.role in ("gain", "bias"):
            assert set(flat[name]) == {float(weight.role == "gain")}, name
    assert sum(weight.size for weight in trainer.shapes.values()) == total
    if type(model) is GPT:
        assert counted(model) in (total, None)


def a_number_that_is_none_shows(subject: Subject) -> None:
    """One NaN in any weight, where it matters most, makes the loss of a batch NaN on every engine."""
    batch, trainer = subject.batch(), subject.run("vector").trainer
    slopes = gradients(trainer.engine, trainer, subject, [batch])
    for name, ops in subject.engines.items():
        own = subject.run(name).trainer
        for weight, found in slopes.items():
            rows = subject.rows()
            steepest = max(range(len(found)), key=lambda i: abs(found[i]))
            row, column = divmod(steepest, len(rows[weight][0]))
            if found[steepest]:
                rows[weight][row][column] = math.nan
            else:  # all the same: no number of it has a part in the loss as it is
                rows[weight] = [[math.nan] * len(numbers) for numbers in rows[weight]]
            w = {name: ops.constant(numbers) for name, numbers in rows.items()}
            loss = ops.values(own._forward(ops, w, batch)[1])[0][0]
            assert math.isnan(loss), (name, weight)


def a_resumed_run_is_the_run(subject: Subject) -> None:
    """From the state in the middle, in a new trainer: the same figures, state and samples, bit for bit."""
    for name in subject.engines:
        whole = subject.run(name)
        middle, end = whole.states
        trainer = subject.trainer(name)
        trainer.restore(middle)
        rest = run(trainer)
        assert rest.metrics == whole.metrics[middle.step :], name
        assert rest.samples == whole.samples
        (state,) = rest.states
        assert (state.weights, state.slots) == (end.weights, end.slots)
        assert (state.step, state.shapes, state.streams) == (end.step, end.shapes, end.streams)


CHECKS: tuple[Callable[[Subject], None], ...] = (
    the_engines_agree,
    a_run_learns_something,
    the_cache_gives_what_a_whole_pass_gives,
    a_batch_is_its_documents_one_by_one,
    no_row_sees_a_later_one,
    gradients_are_slopes,
    batches_of_a_step_are_one_batch,
    parameters_are_counted,
    a_number_that_is_none_shows,
    a_resumed_run_is_the_run,
)
