"""The training loop. It knows no logger and no file, only events."""

import gc
import math
from dataclasses import dataclass
from time import perf_counter
from typing import NoReturn

from microgpt.core.check import integer, positive
from microgpt.core.data import Batch, Corpus, make_batch
from microgpt.core.engine.base import Engine
from microgpt.core.events import Callback, Checkpointed, Diverged, Event, Metrics, Sampled, Stepped
from microgpt.core.model import GPT
from microgpt.core.optim.base import Optimizer
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.base import Schedule
from microgpt.core.streams.base import Streams

LN2 = 0.6931471805599453


@dataclass(kw_only=True)
class Trainer:
    """Trains a model for `num_steps` steps of `batch_size` documents.

    Every `log_every` steps, and after the last, the step's figures are recorded; every `eval_every`
    steps, and after the last, so is the loss on the first `eval_documents` held-out documents.
    Every `checkpoint_every` steps, and when the run stops, its state is kept. 0 turns an `_every`
    off; without `checkpoint_every` nothing is ever kept, without `eval_documents` nothing evaluated.
    `stop_after` ends the run after that many steps, with the schedule as it was. A gradient longer
    than `clip_norm` is scaled down to it.
    """

    model: GPT
    engine: Engine
    optimizer: Optimizer
    schedule: Schedule
    sampler: Sampler
    corpus: Corpus
    streams: Streams
    num_steps: int
    batch_size: int
    eval_every: int
    eval_documents: int
    stop_after: int | None
    checkpoint_every: int
    log_every: int
    clip_norm: float | None

    def __post_init__(self) -> None:
        for key in ("num_steps", "batch_size"):
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
        self.weights = self.model.weights(self.engine, self.streams)
        shapes, init = self.model.shapes(), self.model.init
        scales = {name: init.lr_scale(name, *shape) for name, shape in shapes.items()}
        self.optimizer.prepare(shapes, scales)

    def restore(self, state: Checkpointed) -> None:
        """Go on from a state that an earlier run of this configuration kept."""
        self.engine.assign(self.weights, state.weights)
        self.optimizer.restore(state.step, state.slots)
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
        batch = self.corpus.batch(self.step, self.batch_size, self.model.block_size)
        self.step += 1
        final = self.step == self.num_steps
        evaluated = _due(self.step, self.eval_every) or final
        recorded = _due(self.step, self.log_every) or evaluated
        gc.disable()  # the graph of a step has no cycles: looking for some costs up to a sixth
        try:
            loss, norm = self._update(batch, lr, recorded)
        except (OverflowError, ZeroDivisionError) as error:
            self._diverge("train/loss", math.nan, {"lr": lr}, f": {error}")
        finally:
            gc.enable()
        self._tokens += len(batch.tokens)
        metrics: Metrics = {}
        if recorded:
            metrics = {"train/loss": loss, "lr": lr, "grad_norm": norm}
            metrics |= self._evaluate(metrics) if evaluated else {}
            metrics |= self._costs()
        return Stepped(self.step, loss, len(batch.tokens), metrics)

    def _update(self, batch: Batch, lr: float, measured: bool) -> tuple[float, float]:
        """One update of the weights; returns the loss before it, and the gradient's norm if asked."""
        ops = self.engine
        logits = self.model(ops, self.weights, batch.tokens, batch.spans)
        loss = ops.mean(ops.cross_entropy(logits, batch.targets))
        value = ops.values(loss)[0][0]
        if not math.isfinite(value):
            self._diverge("train/loss", value, {"lr": lr})
        ops.backward(loss)
        norm = ops.update(self.weights, self.optimizer, lr, self.clip_norm, measured)
        if not math.isfinite(norm):
            self._diverge("grad_norm", norm, {"train/loss": value, "lr": lr})
        return value, norm

    def _evaluate(self, metrics: Metrics) -> Metrics:
        """Held-out loss in nats per predicted token, and bits per character.

        bits per character = total nats over ALL targets, end tokens included, / (ln 2 * characters),
        where the characters are the targets that are not the end token.
        """
        documents = self.corpus.validation[: self.eval_documents]
        if not documents:
            return {}
        nats, tokens, characters = 0.0, 0, 0
        weights = self.engine.frozen(self.weights)
        for i in range(0, len(documents), self.batch_size):
            part = documents[i : i + self.batch_size]
            batch = make_batch(part, self.corpus.tokenizer, self.model.block_size)
            try:
                logits = self.model(self.engine, weights, batch.tokens, batch.spans)
                losses = self.engine.values(self.engine.cross_entropy(logits, batch.targets))
            except (OverflowError, ZeroDivisionError) as error:
                self._diverge("val/loss", math.nan, metrics, f": {error}")
            for (loss,) in losses:
                nats += loss
            tokens += len(batch.targets)
            characters += len(batch.targets) - batch.targets.count(self.corpus.tokenizer.bos)
        if not math.isfinite(nats):
            self._diverge("val/loss", nats, metrics)
        return {"val/loss": nats / tokens, "val/bpc": nats / (LN2 * characters)}

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
        shapes, weights = self.model.shapes(), self.engine.flat(self.weights)
        slots = {
            slot: {n: list(w) for n, w in s.items()} for slot, s in self.optimizer.state.items()
        }
        streams = self.streams.state()
        self._tell(Checkpointed(self.step, shapes, weights, slots, streams, self._seconds()))

    def _samples(self) -> list[str]:
        rng = self.streams("sampling")
        tokenizer = self.corpus.tokenizer
        try:
            return list(self.sampler.samples(self.model, self.engine, self.weights, tokenizer, rng))
        except (ArithmeticError, ValueError) as error:  # of weights that the last step blew up
            raise Diverged(self.step, f"no samples: {error}") from error

    def _tell(self, event: Event) -> None:
        for callback in self.callbacks:
            callback(event)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
