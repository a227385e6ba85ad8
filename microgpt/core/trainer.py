"""The training loop. It knows no logger and no file, only events."""

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
    """Trains a model for `num_steps` steps of `accumulate` batches of `batch_size` rows each.

    The gradients of a step's batches are those of one batch of all their rows. Every `log_every`
    steps, and after the last, the step's figures are recorded; every `eval_every` steps, and after
    the last, so is the loss on the first `eval_documents` rows of the validation part. The test part is
    read once, after the last step. Every `checkpoint_every` steps, and when the run stops, its
    state is kept. 0 turns an `_every` off; without `checkpoint_every` nothing is ever kept, without
    `eval_documents` nothing evaluated. `stop_after` ends the run after that many steps, with the
    schedule as it was. A gradient longer than `clip_norm` is scaled down to it.
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
        self._spent = 0.0  # seconds before this process
        self._tokens = 0  # since the last record
        self._begun = self._recorded = perf_counter()
        self.interrupted = False
        self.shapes = self.model.shapes()
        self.weights = initial_weights(self.model, self.engine, self.streams)
        self.optimizer.prepare(self.engine, self.weights, self.shapes, lr_scales(self.model))

    def restore(self, state: Checkpointed) -> None:
        """Go on from a state that an earlier run of this configuration kept."""
        self.engine.load(self.weights, state.weights)
        self.optimizer.restore(self.engine, state.step, state.slots)
        self.streams.restore(state.streams)
        self.step = self.kept = state.step
        self._spent = state.seconds

    def interrupt(self) -> None:
        """Stop after the step that is under way, and keep its state."""
        self.interrupted = True

    def run(self) -> bool:
        """Train; returns whether it came to the end. Raises Diverged at a figure that is not finite."""
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
        """One step, and its figures where they are due."""
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
        """One update of the weights; returns the loss before it, and the gradient's norm if asked."""
        gc.disable()  # the graph of a step has no cycles: looking for some costs up to a sixth
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
        """The objective and the plain cross-entropy, both means over the batch's tokens `[1][1]`."""
        logits = self.model(ops, w, batch.tokens, batch.spans)
        loss = ops.mean(ops.cross_entropy(logits, batch.targets))
        return self.loss(ops, loss, logits, batch.targets), loss

    def _evaluate(self, part: str, metrics: Metrics) -> Metrics:
        """Held-out loss in nats per predicted token, and bits per character, of `val` or `test`.

        bits per character = total nats over ALL targets, end tokens included, / (ln 2 * characters),
        where the characters are the targets that are not the end token. All of the test part counts,
        of validation `eval_documents` rows.
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
        """No loss has been computed from what the last update left."""
        for name, flat in self.engine.flat(self.weights).items():
            if not all(map(math.isfinite, flat)):
                raise Diverged(
                    self.step, f"the update left {name} with numbers that are not finite"
                )

    def _costs(self) -> Metrics:
        """What a clock measured: seconds so far, tokens a second since the last record."""
        now = perf_counter()
        rate = self._tokens / (now - self._recorded)
        self._recorded, self._tokens = now, 0
        return {"cost/seconds": self._seconds(), "cost/tokens_per_sec": rate}

    def _seconds(self) -> float:
        return self._spent + perf_counter() - self._begun

    def _diverge(self, name: str, value: float, metrics: Metrics, why: str = "") -> NoReturn:
        """Record the figure that is not finite, and end the run."""
        self._tell(Stepped(self.step, value, 0, metrics | {name: value} | self._costs()))
        raise Diverged(self.step, f"{name} is {value}{why}")

    def _keep(self) -> None:
        """Tell the state."""
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
        except (ArithmeticError, ValueError) as error:  # of weights that the last step blew up
            raise Diverged(self.step, f"no samples: {error}") from error

    def _tell(self, event: Event) -> None:
        for callback in self.callbacks:
            callback(event)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
