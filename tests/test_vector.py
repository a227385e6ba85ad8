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
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.norm.layernorm import LayerNorm
from microgpt.core.layers.norm.none import NoNorm
from microgpt.core.layers.position.none import NoPosition
from microgpt.core.trainer import Trainer
from microgpt.vector.engine import VectorEngine
from tests.golden import check
from tests.golden.digest import PARAMETERS, digest, trainer_of
from tests.models import losses_of as losses

DIGEST = Path(__file__).parent / "golden" / "digest.py"
NO_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4,-AVX"}
VARIANTS: dict[str, dict[str, Any]] = {
    "batch of 3": {"batch_size": 3},
    "layernorm": {"norm": LayerNorm(eps=1e-5)},
    "no norm": {"norm": NoNorm()},
    "gelu": {"activation": GELU()},
    "no position": {"position": NoPosition()},
}


# The scalar engine's figures


@pytest.mark.parametrize("file", check.FILES, ids=lambda file: file.stem)
def test_losses_are_the_originals_to_1e_9(file: Path) -> None:
    golden = json.loads(file.read_text(encoding="utf-8"))
    steps = min(50, golden["steps_run"] or golden["num_steps"])
    trainer = check.trainer_of(golden, engine=VectorEngine(), stop_after=steps)
    assert losses(trainer) == pytest.approx(golden["losses"][:50], rel=1e-9, abs=0)


@pytest.mark.soak
@pytest.mark.parametrize(
    "sizes",
    [{"n_embd": 4, "n_head": 2, "block_size": 8}, {}],
    ids=["small", "default"],
)
def test_a_thousand_losses_are_the_scalar_engines_to_4_digits(sizes: dict[str, int]) -> None:
    scalar, vector = (
        [f"{loss:.4f}" for loss in losses(trainer_of(engine, num_steps=1000, **sizes))]
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
        sizes = trainer.batch_size, trainer.model.dims.block_size
        trainer._update([trainer.corpus.batch(trainer.step, *sizes)], 0.001, measured=True)
        trainer.step += 1


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
    sizes = {"n_embd": 4, "n_head": 2, "block_size": 8}
    trainer = trainer_of(VectorEngine(), num_steps=10_000, **sizes)
    for k in range(-128 * 60, 1):  # exp keeps what it has once met, in a table with an end
        exact.exp(k / 128)
    steps(trainer, 512)  # what is made once, as a kernel or a table that grows in leaps, is there
    tracemalloc.start()
    steps(trainer, 64)  # every document once: what a step makes anew is traced from here on
    before, _ = tracemalloc.get_traced_memory()
    steps(trainer, n)
    return tracemalloc.get_traced_memory()[0] - before


def test_a_step_makes_no_reference_cycles() -> None:
    assert alone("cycles()") == 0


@pytest.mark.parametrize("n", [100, pytest.param(2000, marks=pytest.mark.soak)])
def test_memory_is_flat(n: int) -> None:
    assert alone(f"growth({n})") < 20_000


# Inference


def test_detached_weights_leave_no_tape() -> None:
    trainer = trainer_of(VectorEngine(), num_steps=1)
    model, ops = trainer.model, trainer.engine
    free = {name: ops.detached(w) for name, w in trainer.weights.items()}
    caches = model.caches()
    for t in range(3):
        logits = model(ops, free, [t], [(0, t + 1)], caches)
        assert not logits.traced
        assert not caches[0].keys.traced
    assert ops.flat(ops.gradients(trainer.weights))["wte"] == [0.0] * (27 * 16)
