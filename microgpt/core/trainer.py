"""The training loop. It writes nothing itself: callbacks receive events."""

import gc
import math
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn

from microgpt.core.check import integer, positive
from microgpt.core.data import Batch, Corpus
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.events import Callback, Checkpointed, Diverged, Event, Metrics, Sampled, Stepped
from microgpt.core.loss.base import Loss
from microgpt.core.models.base import Model, initial_weights, lr_scales
from microgpt.core.optim.base import Optimizer
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.base import Schedule
from microgpt.core.streams.base import Streams

LN2 = 0.6931471805599453


@dataclass(kw_only=True)
class Trainer:
    """Trains a model for `num_steps` steps of `accumulate` batches of `batch_size` sequences.

    num_steps         optimizer steps; also the length of the schedule
    accumulate        batches per step; the gradient is that of one batch of all their sequences
    log_every         steps between logged metrics; the last step is always logged
    eval_every        steps between evaluations on validation; the last step always evaluates
    eval_documents    validation sequences per evaluation, always the first; 0 evaluates none
    checkpoint_every  steps between checkpoints; another is kept when the run ends
    stop_after        end the run after this many steps, with the schedule unchanged
    clip_norm         largest global norm of the gradient; None does not clip

    An `_every` of 0 is off; with `checkpoint_every=0` no state is kept. The test part is evaluated
    once, after the last step. Raises BadValue.
    """

    model: Model
    engine: Engine
    optimizer: Optimizer
    loss: Loss
    schedule: Schedule
    sampler: Sampler
    corpus: Corpus
    streams: Streams
    num_steps: int
    batch_size: int
    accumulate: int
    eval_every: int
    eval_documents: int
    stop_after: int | None
    checkpoint_every: int
    log_every: int
    clip_norm: float | None

    def __post_init__(self) -> None:
        for key in ("num_steps", "batch_size", "accumulate"):
            integer(key, getattr(self, key), 1)
        for key in ("eval_every", "eval_documents", "checkpoint_every", "log_every"):
            integer(key, getattr(self, key), 0)
        if self.clip_norm is not None:
            positive("clip_norm", self.clip_norm)
        stop = self.num_steps if self.stop_after is None else self.stop_after
        self.last_step = min(integer("stop_after", stop, 1), self.num_steps)
        self.callbacks: list[Callback] = []
        self.step = self.kept = 0  # steps done; the step of the last checkpoint
        self._spent = 0.0  # seconds of training in earlier processes
        self._tokens = 0  # since the last logged step
        self._begun = self._recorded = perf_counter()
        self.interrupted = False
        self.shapes = self.model.shapes()
        self.weights = initial_weights(self.model, self.engine, self.streams)
        self.optimizer.prepare(self.engine, self.weights, self.shapes, lr_scales(self.model))

    def restore(self, state: Checkpointed) -> None:
        """Restores the state of an earlier run with the same configuration."""
        self.engine.load(self.weights, state.weights)
        self.optimizer.restore(self.engine, state.step, state.slots)
        self.streams.restore(state.streams)
        self.step = self.kept = state.step
        self._spent = state.seconds

    def interrupt(self) -> None:
        """Stops after the current step and keeps its state."""
        self.interrupted = True

    def run(self) -> bool:
        """Trains; returns whether all `num_steps` are done. Raises Diverged."""
        self._begun = self._recorded = perf_counter()
        while self.step < self.last_step and not self.interrupted:
            self._tell(self.train_step())
            if _due(self.step, self.checkpoint_every):
                self._keep()
        if self.step == self.last_step:
            self._check_weights()
        if self.checkpoint_every and self.kept < self.step:
            self._keep()
        if self.interrupted:
            return False
        self._tell(Sampled(self._samples()))
        return self.step == self.num_steps

    def train_step(self) -> Stepped:
        """One optimizer step, with its metrics if the step is logged."""
        lr = self.schedule(self.optimizer.lr, self.step, self.num_steps)
        size, block_size, k = self.batch_size, self.model.dims.block_size, self.accumulate
        batches = [self.corpus.batch(self.step * k + i, size, block_size) for i in range(k)]
        self.step += 1
        final = self.step == self.num_steps
        evaluated = _due(self.step, self.eval_every) or final
        recorded = _due(self.step, self.log_every) or evaluated
        loss, norm = self._update(batches, lr, recorded)
        tokens = sum([len(batch.tokens) for batch in batches])
        self._tokens += tokens
        metrics: Metrics = {}
        if recorded:
            metrics = {"train/loss": loss, "lr": lr, "grad_norm": norm}
            metrics |= self._evaluate("val", metrics) if evaluated else {}
            metrics |= self._evaluate("test", metrics) if final else {}
            metrics |= self._costs()
        return Stepped(self.step, loss, tokens, metrics)

    def _update(self, batches: list[Batch], lr: float, measured: bool) -> tuple[float, float]:
        """Updates the weights; returns the loss before the update and the gradient norm, if `measured`."""
        gc.disable()  # the graph of a step has no cycles; the collector takes up to a sixth of a step
        try:
            loss, norm = self.engine.step(
                self._forward,
                self.weights,
                batches,
                self.optimizer,
                lr=lr,
                clip_norm=self.clip_norm,
                measured=measured,
            )
        except (OverflowError, ZeroDivisionError) as error:
            self._diverge("train/loss", math.nan, {"lr": lr}, f": {error}")
        finally:
            gc.enable()
        if not math.isfinite(loss):
            self._diverge("train/loss", loss, {"lr": lr})
        if not math.isfinite(norm):
            self._diverge("grad_norm", norm, {"train/loss": loss, "lr": lr})
        return loss, norm

    def _forward(self, ops: Engine, w: Weights, batch: Batch) -> tuple[Matrix, Matrix]:
        """The objective and the plain cross-entropy `[1][1]`, both means over the batch's tokens."""
        logits = self.model(ops, w, batch.tokens, batch.spans)
        loss = ops.mean(ops.cross_entropy(logits, batch.targets))
        return self.loss(ops, loss, logits, batch.targets), loss

    def _evaluate(self, part: str, metrics: Metrics) -> Metrics:
        """Loss in nats per predicted token, and bits per character, on the part `val` or `test`.

        bits per character = total nats over ALL targets, end tokens included, / (ln 2 * characters),
        where the characters are the targets other than the end token. `val` reads `eval_documents`
        sequences, `test` all.
        """
        split, bos = self.corpus.split, self.corpus.tokenizer.bos
        texts, count = (
            (split.test, sys.maxsize) if part == "test" else (split.validation, self.eval_documents)
        )
        nats, tokens, characters = 0.0, 0, 0
        weights = {name: self.engine.detached(w) for name, w in self.weights.items()}
        block_size = self.model.dims.block_size
        for batch in self.corpus.held_out(texts, count, self.batch_size, block_size):
            try:
                logits = self.model(self.engine, weights, batch.tokens, batch.spans)
                losses = self.engine.values(self.engine.cross_entropy(logits, batch.targets))
            except (OverflowError, ZeroDivisionError) as error:
                self._diverge(f"{part}/loss", math.nan, metrics, f": {error}")
            for (loss,) in losses:
                nats += loss
            tokens += len(batch.targets)
            characters += len(batch.targets) - batch.targets.count(bos)
        if not math.isfinite(nats):
            self._diverge(f"{part}/loss", nats, metrics)
        if not tokens:
            return {}
        return {f"{part}/loss": nats / tokens, f"{part}/bpc": nats / (LN2 * max(1, characters))}

    def _check_weights(self) -> None:
        """Raises Diverged if a weight is not finite: no loss follows the last update to show it."""
        for name, flat in self.engine.flat(self.weights).items():
            if not all(map(math.isfinite, flat)):
                raise Diverged(
                    self.step, f"the update left {name} with numbers that are not finite"
                )

    def _costs(self) -> Metrics:
        """Seconds of training so far, and tokens per second since the last logged step."""
        now = perf_counter()
        rate = self._tokens / (now - self._recorded)
        self._recorded, self._tokens = now, 0
        return {"cost/seconds": self._seconds(), "cost/tokens_per_sec": rate}

    def _seconds(self) -> float:
        return self._spent + perf_counter() - self._begun

    def _diverge(self, name: str, value: float, metrics: Metrics, why: str = "") -> NoReturn:
        """Logs the metric that is not finite, and raises Diverged."""
        self._tell(Stepped(self.step, value, 0, metrics | {name: value} | self._costs()))
        raise Diverged(self.step, f"{name} is {value}{why}")

    def _keep(self) -> None:
        """Sends the state to the callbacks."""
        self.kept = self.step
        shapes = {name: (weight.n_out, weight.n_in) for name, weight in self.shapes.items()}
        weights = self.engine.flat(self.weights)
        slots = {slot: self.engine.flat(w) for slot, w in self.optimizer.state.items()}
        streams = self.streams.state()
        self._tell(Checkpointed(self.step, shapes, weights, slots, streams, self._seconds()))

    def _samples(self) -> list[str]:
        rng = self.streams("sampling")
        try:
            return list(
                self.sampler.samples(self.model, self.engine, self.weights, self.corpus, rng)
            )
        except (ArithmeticError, ValueError) as error:  # the last update may have diverged
            raise Diverged(self.step, f"no samples: {error}") from error

    def _tell(self, event: Event) -> None:
        for callback in self.callbacks:
            callback(event)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
