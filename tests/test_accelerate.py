"""The NumPy engine against the derived operations on the scalar engine, forward and backward."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from microgpt.core.model import GPT

from microgpt.accelerate import NumpyEngine
from microgpt.core.check import BadValue
from microgpt.core.data import make_corpus, read_documents
from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.events import Checkpointed, Diverged, Stepped
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adam_original import AdamOriginal
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Optimizer
from microgpt.core.optim.sgd import SGD
from microgpt.core.sampling import Sampler
from microgpt.core.schedule.linear import Linear
from microgpt.core.streams.single import Single
from microgpt.core.trainer import Trainer

GOLDEN = Path(__file__).parent / "golden"
DOCUMENTS = read_documents((GOLDEN / "names_tiny.txt").read_text())


def trainer(engine: Engine, optimizer: Optimizer | None = None, **changes: Any) -> Trainer:
    """A small run; `changes` to the golden configurations' keys and to the parts."""
    c: dict[str, Any] = {
        "seed": 42,
        "n_embd": 8,
        "n_head": 2,
        "n_layer": 1,
        "block_size": 8,
        "num_steps": 50,
        "steps_run": None,
        "lr": 0.01,
        "batch_size": 1,
        "clip_norm": None,
        "checkpoint_every": 0,
        "norm": RMSNorm(eps=1e-5),
        "activation": ReLU(),
        "position": Learned(),
    }
    c |= changes
    streams = Single(seed=c["seed"])
    corpus = make_corpus(DOCUMENTS, val_fraction=0, split_seed=0, rng=streams("data"))
    model = GPT(
        vocab_size=corpus.tokenizer.vocab_size,
        block_size=c["block_size"],
        n_layer=c["n_layer"],
        n_head=c["n_head"],
        n_embd=c["n_embd"],
        norm=c["norm"],
        activation=c["activation"],
        position=c["position"],
        attention=MultiHead(),
        mlp=FeedForward(expansion=4),
        head=Untied(),
        init=c.get("init", Gauss(std=0.08)),
    )
    adam = Adam(lr=c["lr"], beta1=0.85, beta2=0.99, eps=1e-8)
    return Trainer(
        model=model,
        engine=engine,
        optimizer=optimizer or adam,
        schedule=Linear(warmup_steps=0),
        sampler=Sampler(num_samples=2, temperature=0.5, top_k=0, top_p=1.0),
        corpus=corpus,
        streams=streams,
        num_steps=c["num_steps"],
        batch_size=c["batch_size"],
        eval_every=0,
        eval_documents=0,
        stop_after=c["steps_run"],
        checkpoint_every=c["checkpoint_every"],
        log_every=1,
        clip_norm=c["clip_norm"],
    )


def losses(run: Trainer) -> list[float]:
    """The losses of a whole run."""
    found: list[float] = []

    def listen(event: object) -> None:
        if isinstance(event, Stepped):
            found.append(event.loss)

    run.callbacks.append(listen)
    run.run()
    return found


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden_losses(path: Path) -> None:
    golden = json.loads(path.read_text())
    run = trainer(NumpyEngine(dtype="float64"), **golden)
    assert losses(run) == pytest.approx(golden["losses"], rel=1e-9)


class OtherInit(Gauss):
    """A learning rate of its own for each weight."""

    def lr_scale(self, name: str, n_out: int, n_in: int) -> float:
        return 1 / n_in


class Halved(Adam):
    """A subclass with a rule of its own, which the engine must not take for Adam."""

    def update(self, name: str, values: list[float], grads: list[float], lr: float) -> list[float]:
        return super().update(name, values, grads, lr / 2)


ADAM = {"lr": 0.01, "beta1": 0.85, "beta2": 0.99, "eps": 1e-8}
VARIANTS: dict[str, tuple[Callable[[], Optimizer] | None, dict[str, Any]]] = {
    "layernorm": (None, {"norm": LayerNorm(eps=1e-5)}),
    "no norm": (None, {"norm": NoNorm()}),
    "gelu": (None, {"activation": GELU()}),
    "no position": (None, {"position": NoPosition()}),
    "two layers": (None, {"n_layer": 2, "n_embd": 4}),
    "no layer": (None, {"n_layer": 0}),
    "batch of 4": (None, {"batch_size": 4, "n_embd": 4, "block_size": 6}),
    "batch of 8": (None, {"batch_size": 8, "n_embd": 4, "block_size": 5}),
    "clipped": (None, {"clip_norm": 0.5}),
    "lr by weight": (None, {"init": OtherInit(std=0.08)}),
    "adamw": (lambda: AdamW(weight_decay=0.1, **ADAM), {}),
    "adamw, lr by weight": (
        lambda: AdamW(weight_decay=0.1, **ADAM),
        {"init": OtherInit(std=0.08)},
    ),
    "sgd": (lambda: SGD(lr=0.1, momentum=0.5), {}),
    "adam_original": (lambda: AdamOriginal(**ADAM), {}),
    "a subclass": (lambda: Halved(**ADAM), {}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_follow_the_scalar_engine(name: str) -> None:
    optimizer, changes = VARIANTS[name]
    # The whole 50 steps where a figure could drift; other rules and shapes show it in 25.
    steps = {"steps_run": 25 if optimizer or "init" in changes else 50}
    runs = [
        trainer(engine, optimizer() if optimizer else None, **steps, **changes)
        for engine in (ScalarEngine(), NumpyEngine(dtype="float64"))
    ]
    reference, fast = [losses(run) for run in runs]
    assert fast == pytest.approx(reference, rel=1e-9)
    for name, flat in runs[0].engine.flat(runs[0].weights).items():
        assert runs[1].engine.flat(runs[1].weights)[name] == pytest.approx(flat, abs=1e-9)
    assert runs[1]._samples() == runs[0]._samples()  # the same text: caches and inference agree


def test_float32_run_is_close() -> None:
    reference = losses(trainer(NumpyEngine(dtype="float64"), batch_size=4))
    assert losses(trainer(NumpyEngine(dtype="float32"), batch_size=4)) == pytest.approx(
        reference, rel=1e-3
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_deterministic(dtype: str) -> None:
    runs = [losses(trainer(NumpyEngine(dtype=dtype), batch_size=8)) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_resume_from_plain_lists(dtype: str) -> None:
    """A state that went through JSON goes on as if nothing had been, before and between steps."""
    whole = trainer(NumpyEngine(dtype=dtype), checkpoint_every=20)
    kept: list[str] = []

    def keep(event: object) -> None:
        if isinstance(event, Checkpointed) and event.step == 20:
            slots = {s: {n: list(f) for n, f in slot.items()} for s, slot in event.slots.items()}
            kept.append(json.dumps([event.weights, slots]))
            assert all(
                type(x) is float for slot in slots.values() for f in slot.values() for x in f
            )

    whole.callbacks.append(keep)
    expected = losses(whole)
    weights, slots = json.loads(kept[0])
    streams = whole.streams.state()

    for steps_before in (0, 3):
        resumed = trainer(NumpyEngine(dtype=dtype))
        resumed._begun = resumed._recorded = resumed._tokens = 0
        for _ in range(steps_before):
            resumed.train_step()
        resumed.restore(Checkpointed(20, {}, weights, slots, streams, 0.0))
        assert losses(resumed) == expected[20:]


def test_slots_are_sequences_of_floats() -> None:
    run = trainer(NumpyEngine(dtype="float32"), num_steps=2)
    run.run()
    slot = run.optimizer.state["m"]["lm_head"]
    assert len(slot) == len(list(slot)) == len(run.engine.flat(run.weights)["lm_head"])
    assert type(slot[0]) is float
    assert slot[:2] == list(slot)[:2]
    assert slot == list(slot)
    assert slot != [0.0] * len(slot)


def test_frozen_weights_follow_training() -> None:
    run = trainer(NumpyEngine(dtype="float64"), num_steps=2)
    frozen = run.engine.frozen(run.weights)
    run.run()
    for name, w in run.weights.items():
        assert run.engine.values(frozen[name]) == run.engine.values(w)


def test_two_backward_passes_add_up() -> None:
    ops = NumpyEngine(dtype="float64")
    weights = {"w": ops.parameter([[2.0, 3.0]]), "unused": ops.parameter([[1.0]])}
    for _ in range(2):
        ops.backward(ops.row_sum(ops.mul(weights["w"], 5.0)))
    assert ops.gradients(weights) == {"w": [10.0, 10.0], "unused": [0.0]}
    assert ops.gradients(weights) == {"w": [0.0, 0.0], "unused": [0.0]}


def test_divergence_is_a_number_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops = NumpyEngine(dtype="float64")
        x = ops.parameter([[1e200, -1e200]])
        loss = ops.mean(ops.cross_entropy(ops.mul(ops.mul(x, 1e200), 1.0), [1]))
        assert not math.isfinite(ops.values(loss)[0][0])
        ops.backward(loss)
        run = trainer(ops, SGD(lr=1e30, momentum=0), lr=1e30, norm=NoNorm())
        with pytest.raises(Diverged):
            run.run()


@pytest.mark.parametrize("dtype", ["float16", "double", "", None])
def test_unknown_dtype(dtype: Any) -> None:
    with pytest.raises(BadValue, match=r"dtype=.*must be float64 or float32"):
        NumpyEngine(dtype=dtype)


def test_fingerprint_names_dtype_and_blas() -> None:
    fingerprint = NumpyEngine(dtype="float32").depends_on()
    assert fingerprint["dtype"] == "float32"
    assert fingerprint["blas"]
