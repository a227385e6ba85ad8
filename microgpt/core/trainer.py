"""The training loop. It writes nothing itself: callbacks receive events."""

import gc
import math
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn

from microgpt.core.check import BadValue, fraction, integer, positive
from microgpt.core.data import Batch, Corpus
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.evaluation import evaluate
from microgpt.core.events import Callback, Checkpointed, Diverged, Event, Metrics, Sampled, Stepped
from microgpt.core.keeping import Average, Best
from microgpt.core.loss.base import Loss
from microgpt.core.models.base import Model, initial_weights, lr_scales
from microgpt.core.optim.base import Optimizer
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.base import Schedule
from microgpt.core.streams.base import Streams


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
    train_length      training sequences are cut to this many predicted tokens; None for block_size
    patience          end after this many steps without a lower validation loss, with the best weights
    average           decay of a moving average of the weights, evaluated beside them; None for none

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
    train_length: int | None = None
    patience: int | None = None
    average: float | None = None

    def __post_init__(self) -> None:
        for key in ("num_steps", "batch_size", "accumulate"):
            integer(key, getattr(self, key), 1)
        for key in ("eval_every", "eval_documents", "checkpoint_every", "log_every"):
            integer(key, getattr(self, key), 0)
        if self.clip_norm is not None:
            positive("clip_norm", self.clip_norm)
        stop = self.num_steps if self.stop_after is None else self.stop_after
        self.last_step = min(integer("stop_after", stop, 1), self.num_steps)
        self.length = self._train_length()
        self.best = self._best()
        self.callbacks: list[Callback] = []
        self.step = self.kept = 0  # steps done; the step of the last checkpoint
        self._spent = 0.0  # seconds of training in earlier processes
        self._tokens = 0  # since the last logged step
        self._begun = self._recorded = perf_counter()
        self.interrupted = False
        self.shapes = self.model.shapes()
        self.weights = initial_weights(self.model, self.engine, self.streams)
        self.optimizer.measure(self._tokens_per_step)
        self.optimizer.prepare(self.engine, self.weights, self.shapes, lr_scales(self.model))
        self.averaged = self._average()

    def _train_length(self) -> int:
        block_size = self.model.dims.block_size
        if self.train_length is None:
            return block_size
        if integer("train_length", self.train_length, 1) > block_size:
            allowed = f"must be at most block_size={block_size}"
            raise BadValue("train_length", self.train_length, allowed)
        return self.train_length

    def _best(self) -> Best | None:
        if self.patience is None:
            return None
        best = Best(integer("patience", self.patience, 1))
        if not (self.eval_every and self.eval_documents and self.corpus.split.validation):
            allowed = "needs eval_every, eval_documents and documents for validation"
            raise BadValue("patience", self.patience, allowed)
        if self.patience % self.eval_every:
            raise BadValue(
                "patience", self.patience, f"must divide by eval_every={self.eval_every}"
            )
        return best

    def _average(self) -> Average | None:
        if self.average is None:
            return None
        return Average(self.engine, self.weights, fraction("average", self.average))

    def _tokens_per_step(self) -> float:
        sequences = self.batch_size * self.accumulate
        return self.corpus.tokens(self.num_steps, sequences, self.length) / self.num_steps

    @property
    def done(self) -> bool:
        """Whether training has ended, by its length or for want of progress."""
        return self.step >= self.num_steps or (self.best is not None and self.best.ends(self.step))

    def restore(self, state: Checkpointed) -> None:
        """Restores the state of an earlier run with the same configuration."""
        self.engine.load(self.weights, state.weights)
        self.optimizer.restore(self.engine, state.step, state.slots)
        if self.averaged:
            self.engine.load(self.averaged.weights, state.slots[Average.SLOT])
        if self.best:
            self.best.step = state.step  # patience begins here where nothing was kept
            if state.best:
                self.best.offer(*state.best, state.slots[Best.SLOT])
        self.streams.restore(state.streams)
        self.step = self.kept = state.step
        self._spent = state.seconds

    def interrupt(self) -> None:
        """Stops after the current step and keeps its state."""
        self.interrupted = True

    def run(self) -> bool:
        """Trains; returns whether all `num_steps` are done. Raises Diverged."""
        self._begun = self._recorded = perf_counter()
        while self.step < self.last_step and not self.done and not self.interrupted:
            self._tell(self.train_step())
            if _due(self.step, self.checkpoint_every):
                self._keep()
        if self.step == self.last_step or self.done:
            self._check_weights()
        if self.checkpoint_every and self.kept < self.step:
            self._keep()
        if self.interrupted:
            return False
        self._tell(Sampled(self._samples()))
        return self.done

    def train_step(self) -> Stepped:
        """One optimizer step, with its metrics if the step is logged."""
        lr = self.schedule(self.optimizer.lr, self.step, self.num_steps)
        size, length, k = self.batch_size, self.length, self.accumulate
        batches = [self.corpus.batch(self.step * k + i, size, length) for i in range(k)]
        self.step += 1
        evaluated = _due(self.step, self.eval_every) or self.step == self.num_steps
        recorded = _due(self.step, self.log_every) or evaluated
        loss, norm = self._update(batches, lr, recorded)
        if self.averaged:
            self.averaged.add(self.weights, self.step)
        tokens = sum([len(batch.tokens) for batch in batches])
        self._tokens += tokens
        metrics: Metrics = {}
        if recorded:
            metrics = {"train/loss": loss, "lr": lr, "grad_norm": norm}
            metrics |= self._evaluations("val", metrics) if evaluated else {}
            if self.best and evaluated:
                self._choose(self.best, metrics["val/loss"])
                if self.done and self.best.step < self.step:  # the weights are others
                    metrics |= self._evaluations("val", metrics)
            metrics |= self._evaluations("test", metrics) if self.done else {}
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

    def _choose(self, best: Best, loss: float) -> None:
        """Keeps the weights if their validation loss is the lowest; restores the best at the end."""
        best.offer(self.step, loss, self.engine.flat(self.weights))
        if self.done:
            self.engine.load(self.weights, best.weights)

    def _evaluations(self, part: str, metrics: Metrics) -> Metrics:
        """The score on the part `val` or `test`, of the averaged weights too."""
        found = self._evaluate(f"{part}/", self.weights, metrics)
        if self.averaged:
            found |= self._evaluate(f"{part}/average_", self.averaged.weights, metrics)
        return found

    def _evaluate(self, name: str, weights: Weights, metrics: Metrics) -> Metrics:
        """The metrics of these weights, under names that begin with `val/` or `test/`."""
        count, part = self.eval_documents, name.partition("/")[0]
        try:
            score = evaluate(
                self.engine,
                self.model,
                weights,
                self.corpus,
                part,
                eval_documents=count,
                batch_size=self.batch_size,
            )
        except (OverflowError, ZeroDivisionError) as error:
            self._diverge(f"{name}loss", math.nan, metrics, f": {error}")
        if not math.isfinite(score.nats):
            self._diverge(f"{name}loss", score.nats, metrics)
        return score.metrics(name)

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
        kept = self.optimizer.state | (
            {Average.SLOT: self.averaged.weights} if self.averaged else {}
        )
        slots = {slot: self.engine.flat(w) for slot, w in kept.items()}
        best = None
        if self.best and self.best.weights:
            slots[Best.SLOT], best = dict(self.best.weights), (self.best.step, self.best.loss)
        streams = self.streams.state()
        seconds = self._seconds()
        self._tell(Checkpointed(self.step, shapes, weights, slots, streams, seconds, best))

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
