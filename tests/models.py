"""Trainers of small models for the tests, built by `assemble`. The standard library alone."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from microgpt.core.assemble import assemble
from microgpt.core.data import read_documents
from microgpt.core.engine.base import Engine
from microgpt.core.events import Callback, Event, Stepped
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.block.pre_norm import PreNorm
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.normal import Normal
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.loss.cross_entropy import CrossEntropy
from microgpt.core.models.gpt import GPT
from microgpt.core.optim.adam import Adam
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.linear import Linear
from microgpt.core.source import Source
from microgpt.core.streams.base import Streams
from microgpt.core.streams.independent import Independent
from microgpt.core.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden"
NAMES = read_documents((GOLDEN / "names_tiny.txt").read_text(encoding="utf-8"))
ADAM = {"lr": 0.01, "beta1": 0.85, "beta2": 0.99, "eps": 1e-8}

MODEL: dict[str, Any] = {
    "block_size": 8,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 8,
    "norm_embd": True,
    "norm_final": False,
    "norm_qk": False,
    "bias": False,
}
SAMPLING: dict[str, Any] = {"num_samples": 2, "temperature": 0.5, "top_k": 0, "top_p": 1.0}
SOURCE: dict[str, Any] = {
    "val_fraction": 0.0,
    "test_fraction": 0.0,
    "split": "hash",
    "split_seed": 0,
}
TRAINING: dict[str, Any] = {
    "num_steps": 50,
    "batch_size": 1,
    "accumulate": 1,
    "eval_every": 0,
    "eval_documents": 0,
    "stop_after": None,
    "checkpoint_every": 0,
    "log_every": 1,
    "clip_norm": None,
}


def trainer_of(engine: Engine, documents: Sequence[str] = NAMES, **changes: Any) -> Trainer:
    """A trainer of a small model on the tiny names; `changes` to any key or part of a run by its name.

    `seed` and the class `streams` make the random streams. A new one has parts of its own.
    """
    parts: dict[str, Any] = {
        "norm": RMSNorm(eps=1e-5),
        "activation": ReLU(),
        "position": Learned(),
        "attention": MultiHead(),
        "mlp": FeedForward(expansion=4),
        "block": PreNorm(residual=1.0),
        "head": Untied(),
        "init": Normal(std=0.08),
    }
    run: dict[str, Any] = {
        "loss": CrossEntropy(),
        "optimizer": Adam(**ADAM),
        "schedule": Linear(warmup_steps=0),
    }
    streams: type[Streams] = changes.pop("streams", Independent)
    seed = changes.pop("seed", 42)

    def chosen(defaults: dict[str, Any]) -> dict[str, Any]:
        return {key: changes.pop(key, value) for key, value in defaults.items()}

    return assemble(
        source=Source(**chosen(SOURCE)),
        documents=documents,
        streams=streams(seed=seed),
        model=partial(_model, chosen(MODEL | parts)),
        engine=engine,
        sampler=Sampler(**chosen(SAMPLING)),
        **chosen(run | TRAINING),
        **changes,
    )


def _model(parts: dict[str, Any], vocab_size: int) -> GPT:
    return GPT(vocab_size=vocab_size, **parts)


def events_of(trainer: Trainer) -> list[Event]:
    """The events of a whole run."""
    events: list[Event] = []
    callback: Callback = events.append
    trainer.callbacks.append(callback)
    trainer.run()
    return events


def losses_of(trainer: Trainer) -> list[float]:
    """The losses of a whole run."""
    return [event.loss for event in events_of(trainer) if isinstance(event, Stepped)]
