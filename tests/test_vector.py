"""The vector engine: the scalar engine's figures, the same bits everywhere, no memory kept."""

import gc
import json
import os
import platform
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from microgpt.core import exact
from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.events import Diverged, Event, Stepped
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.trainer import Trainer
from microgpt.vector.engine import VectorEngine
from tests.golden import check
from tests.golden.digest import PARAMETERS, digest, trainer_of

DIGEST = Path(__file__).parent / "golden" / "digest.py"
NO_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4,-AVX"}
VARIANTS: dict[str, dict[str, Any]] = {
    "batch of 3": {"batch_size": 3},
    "layernorm": {"norm": LayerNorm(eps=1e-5)},
    "no norm": {"norm": NoNorm()},
    "gelu": {"activation": GELU()},
    "no position": {"position": NoPosition()},
}


def losses(trainer: Trainer) -> list[float]:
    found: list[float] = []

    def collect(event: Event) -> None:
        if isinstance(event, Stepped):
            found.append(event.loss)

    trainer.callbacks.append(collect)
    trainer.run()
    return found


# The scalar engine's figures


@pytest.mark.parametrize("file", check.FILES, ids=lambda file: file.stem)
def test_losses_are_the_originals_to_1e_9(file: Path) -> None:
    golden = json.loads(file.read_text(encoding="utf-8"))
    trainer = check.trainer_of(golden)
    rows = {name: trainer.engine.values(w) for name, w in trainer.weights.items()}
    trainer.engine = VectorEngine()
    trainer.weights = {name: trainer.engine.parameter(w) for name, w in rows.items()}
    trainer.last_step = min(50, trainer.last_step)
    assert losses(trainer) == pytest.approx(golden["losses"][:50], rel=1e-9, abs=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_the_scalar_engines_to_1e_9(variant: str) -> None:
    scalar, vector = (
        losses(trainer_of(engine, num_steps=50, n_embd=8, **VARIANTS[variant]))
        for engine in (ScalarEngine(), VectorEngine())
    )
    assert vector == pytest.approx(scalar, rel=1e-9, abs=0)


@pytest.mark.slow
def test_a_thousand_losses_are_the_scalar_engines_to_4_digits() -> None:
    scalar, vector = (
        [f"{loss:.4f}" for loss in losses(trainer_of(engine, num_steps=1000))]
        for engine in (ScalarEngine(), VectorEngine())
    )
    assert vector == scalar


# The same bits everywhere


def printed(python: str, *arguments: str, **environment: str) -> str:
    """What the digest script prints, without site-packages."""
    command = [python, "-S", "-I", str(DIGEST), *arguments]
    env = os.environ | environment
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout[:-1]


def python(version: str) -> str | None:
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return str(found[0]) if found else shutil.which(f"python{version}")


def test_the_parameters_after_100_steps_to_the_last_bit() -> None:
    assert digest() == PARAMETERS


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_same_bits_on_every_python(version: str) -> None:
    if (interpreter := python(version)) is None:
        pytest.skip(f"no Python {version} here")
    assert printed(interpreter) == PARAMETERS


def test_the_same_bits_on_a_processor_without_fma_though_libm_has_others() -> None:
    if platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc on x86_64 can hide a processor's instructions")
    assert printed(sys.executable, **NO_FMA) == PARAMETERS
    if "fma" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no FMA to hide")
    assert printed(sys.executable, "libm", **NO_FMA) != printed(sys.executable, "libm")


# Memory: measured in a process of its own, where no other test has left a thread


def alone(expression: str) -> int:
    """What an expression over this module's names is, in a fresh process."""
    program = f"from tests import test_vector\nprint(test_vector.{expression})"
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def steps(trainer: Trainer, n: int) -> None:
    """The work of n steps, the collector off: the trainer turns it on again after each."""
    for _ in range(n):
        batch = trainer.corpus.batch(trainer.step, trainer.batch_size, trainer.model.block_size)
        trainer.step += 1
        trainer._update(batch, 0.001, measured=True)


def cycles() -> int:
    """How many objects ten steps of every variant leave to the collector."""
    gc.disable()
    found = 0
    for variant in VARIANTS.values():
        trainer = trainer_of(VectorEngine(), num_steps=1000, **variant)
        steps(trainer, 3)  # kernels are compiled
        gc.collect()
        steps(trainer, 10)
        found += gc.collect()
    return found


def growth(n: int) -> int:
    """Bytes that n steps leave behind."""
    gc.disable()
    trainer = trainer_of(VectorEngine(), num_steps=10_000, n_embd=8)
    steps(trainer, 64)  # every document once: kernels of all their lengths are compiled
    for k in range(-128 * 60, 1):  # exp keeps what it has once met, in a table with an end
        exact.exp(k / 128)
    tracemalloc.start()
    steps(trainer, 64)
    before, _ = tracemalloc.get_traced_memory()
    steps(trainer, n)
    return tracemalloc.get_traced_memory()[0] - before


def test_a_step_makes_no_reference_cycles() -> None:
    assert alone("cycles()") == 0


@pytest.mark.parametrize("n", [100, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_is_flat(n: int) -> None:
    assert alone(f"growth({n})") < 20_000


# Inference


def test_frozen_weights_leave_no_tape() -> None:
    trainer = trainer_of(VectorEngine(), num_steps=1)
    model, ops = trainer.model, trainer.engine
    frozen, caches = ops.frozen(trainer.weights), model.caches()
    for t in range(3):
        logits = model(ops, frozen, [t], [(0, t + 1)], caches)
        assert not logits.traced
        assert not caches[0].keys.traced
    assert ops.gradients(trainer.weights)["wte"] == [0.0] * (27 * 16)


def test_a_cached_row_gives_the_logits_of_the_whole_document() -> None:
    trainer = trainer_of(VectorEngine(), num_steps=1)
    model, ops, tokens = trainer.model, trainer.engine, [26, 3, 1, 4, 1]
    whole = ops.values(model(ops, trainer.weights, tokens, [(0, 5)]))
    frozen, caches = ops.frozen(trainer.weights), model.caches()
    for t, token in enumerate(tokens):
        (row,) = ops.values(model(ops, frozen, [token], [(0, t + 1)], caches))
        assert row == pytest.approx(whole[t], rel=1e-12)


@pytest.mark.parametrize("engine", [ScalarEngine(), VectorEngine()], ids=["scalar", "vector"])
def test_a_run_that_overflows_diverges(engine: Engine) -> None:
    trainer = trainer_of(engine, num_steps=5, n_embd=8, norm=NoNorm())
    trainer.optimizer.lr = 1e200
    with pytest.raises(Diverged):
        trainer.run()
