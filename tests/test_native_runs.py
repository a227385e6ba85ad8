"""Whole runs on the native engine: the vector engine's figures to the last bit, replayed or not."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.events import Checkpointed, Diverged, Event, Sampled, Stepped
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.silu import SiLU
from microgpt.core.layers.attention.grouped_query import GroupedQuery
from microgpt.core.layers.block.post_norm import PostNorm
from microgpt.core.layers.head.tied import Tied
from microgpt.core.layers.init.zero_projections import ZeroProjections
from microgpt.core.layers.mlp.gated import Gated
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.norm.rmsnorm_gain import RMSNormGain
from microgpt.core.layers.position.alibi import ALiBi
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.layers.position.rope import RoPE
from microgpt.core.loss.label_smoothing import LabelSmoothing
from microgpt.core.loss.z_loss import ZLoss
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer, Slots
from microgpt.core.optim.lion import Lion
from microgpt.core.optim.muon import Muon
from microgpt.core.optim.sgd import SGD
from microgpt.core.trainer import Trainer
from microgpt.native import NativeEngine
from microgpt.native.library import compiler
from microgpt.run.folder import RunFolder
from microgpt.run.identity import parameters_sha256
from microgpt.vector.engine import VectorEngine
from tests.models import ADAM, events_of, losses_of, trainer_of
from tests.running import train_as

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
    "rope": lambda: {"position": RoPE(base=10000.0)},
    "alibi": lambda: {"position": ALiBi(), "batch_size": 2},
    "grouped queries": lambda: {
        "attention": GroupedQuery(n_kv_head=2),
        "n_head": 4,
        "batch_size": 2,
    },
    "swiglu": lambda: {"mlp": Gated(expansion=4), "activation": SiLU()},
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
