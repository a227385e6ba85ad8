"""The NumPy engine in whole runs: the scalar engine's figures, either dtype, a state that goes on."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microgpt.accelerate import NumpyEngine
from microgpt.core.check import BadValue
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.events import Checkpointed, Diverged, Stepped
from microgpt.core.layers.base import Dims
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.optim.adam import Adam
from microgpt.core.optim.adamw import AdamW
from microgpt.core.optim.base import Slots
from microgpt.core.optim.sgd import SGD
from microgpt.core.streams.single import Single
from microgpt.core.trainer import Trainer
from microgpt.core.weight import Weight
from tests import models
from tests.golden import check
from tests.models import ADAM
from tests.models import losses_of as losses


def trainer(engine: Engine, **changes: Any) -> Trainer:
    """A small run whose weights are drawn as the original's."""
    return models.trainer_of(engine, **{"streams": Single, "init": Gauss(std=0.08)} | changes)


@pytest.mark.parametrize("path", check.FILES, ids=lambda path: path.stem)
def test_golden_losses(path: Path) -> None:
    golden = json.loads(path.read_text())
    run = check.trainer_of(
        golden, engine=NumpyEngine(dtype="float64"), optimizer=Adam(**ADAM | {"lr": golden["lr"]})
    )
    assert losses(run) == pytest.approx(golden["losses"], rel=1e-9)


class OtherInit(Gauss):
    """A learning rate of its own for each weight."""

    def lr_scale(self, weight: Weight, dims: Dims) -> float:
        return 1 / weight.n_in


class Halved(Adam):
    """A subclass with a rule of its own, which the engine must not take for Adam."""

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        return super().update(ops, p, g, slots, lr / 2)


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "lr by weight": lambda: {"init": OtherInit(std=0.08)},
    "adamw, lr by weight": lambda: {
        "init": OtherInit(std=0.08),
        "optimizer": AdamW(weight_decay=0.1, **ADAM),
    },
    "a subclass": lambda: {"optimizer": Halved(**ADAM)},
    "a batch whose documents are padded": lambda: {"batch_size": 8, "n_embd": 4, "block_size": 5},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_follow_the_scalar_engine(name: str) -> None:
    runs = [
        trainer(engine, stop_after=25, **VARIANTS[name]())
        for engine in (ScalarEngine(), NumpyEngine(dtype="float64"))
    ]
    reference, fast = [losses(run) for run in runs]
    assert fast == pytest.approx(reference, rel=1e-9)
    for name, flat in runs[0].engine.flat(runs[0].weights).items():
        assert runs[1].engine.flat(runs[1].weights)[name] == pytest.approx(flat, abs=1e-9)


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
    events = models.events_of(trainer(NumpyEngine(dtype=dtype), checkpoint_every=20))
    expected = [event.loss for event in events if isinstance(event, Stepped)]
    state = next(event for event in events if isinstance(event, Checkpointed))
    weights, slots = json.loads(json.dumps([state.weights, state.slots]))
    for steps_before in (0, 3):
        resumed = trainer(NumpyEngine(dtype=dtype))
        for _ in range(steps_before):
            resumed.train_step()
        resumed.restore(Checkpointed(20, {}, weights, slots, state.streams, 0.0))
        assert losses(resumed) == expected[20:]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_state_is_of_plain_floats(dtype: str) -> None:
    run = trainer(NumpyEngine(dtype=dtype), num_steps=2, checkpoint_every=2)
    (state,) = [event for event in models.events_of(run) if isinstance(event, Checkpointed)]
    for flats in (state.weights, *state.slots.values()):
        assert {type(number) for flat in flats.values() for number in flat} == {float}
    assert any(state.slots["m"]["lm_head"])


def test_divergence_is_a_number_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops = NumpyEngine(dtype="float64")
        x = ops.parameter([[1e200, -1e200]])
        loss = ops.mean(ops.cross_entropy(x * 1e200, [1]))
        assert not math.isfinite(ops.values(loss)[0][0])
        ops.backward(loss)
        run = trainer(ops, optimizer=SGD(lr=1e30, momentum=0), norm=NoNorm())
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
