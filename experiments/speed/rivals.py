"""What is timed: a step of training, of each engine and of its rivals, from the same documents."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random
from time import process_time

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import microgpt
from microgpt.app import config_path
from microgpt.build import build
from microgpt.core import exact
from microgpt.core.data import read_documents
from microgpt.core.trainer import Trainer
from microgpt.native import NativeEngine, problem

NAMES = Path(microgpt.__file__).parent / "datasets" / "names.txt"
SLICE = 0.2  # seconds that a rival runs before it is the next one's turn
NUM_STEPS = 1_000_000  # the schedule's length: no rival comes to its end
LR = 0.001  # the widest model diverges at 0.01, and figures that are not finite cost other times


@dataclass(frozen=True)
class Size:
    """A model and a batch."""

    n_embd: int = 16
    batch_size: int = 1
    n_layer: int = 1
    block_size: int = 16

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in vars(self).items())


def documents(size: Size) -> list[str]:
    """The names, shuffled; for longer blocks several of them on a line."""
    names = read_documents(NAMES.read_text())
    Random(0).shuffle(names)
    joined = max(1, size.block_size // 16) * 2 - 1
    return [" ".join(names[i : i + joined]) for i in range(0, len(names) - joined, joined)]


def trainer(engine: str, size: Size, folder: Path) -> Trainer:
    """A trainer of ours, ready for its first step, with nothing to record."""
    file = folder / f"block-{size.block_size}.txt"
    if not file.exists():
        file.write_text("".join(f"{document}\n" for document in documents(size)))
    name, _, dtype = engine.partition(" ")
    overrides = [f"engine={name}", "data=lines", f"data.path={file}", "data.val_fraction=0"]
    overrides += [
        f"model.{key}={getattr(size, key)}" for key in ("n_embd", "n_layer", "block_size")
    ]
    overrides += [f"trainer.batch_size={size.batch_size}", f"trainer.num_steps={NUM_STEPS}"]
    overrides += [
        "trainer.log_every=0",
        "trainer.eval_every=0",
        "tracking=none",
        f"optimizer.lr={LR}",
    ]
    overrides += [f"engine.dtype={dtype}"] if dtype else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        return build(compose("train", overrides)).trainer


def libm_step(trainer: Trainer) -> Callable[[], object]:
    """A step with the C library's functions in the place of those with the same bits everywhere."""
    ours = {name: getattr(exact, name) for name in ("exp", "log", "tanh")}

    def step() -> object:
        for name in ours:
            setattr(exact, name, getattr(math, name))
        try:
            return trainer.train_step()
        finally:
            for name, function in ours.items():
                setattr(exact, name, function)

    return step


def torch_step(size: Size) -> Callable[[], float]:
    """PyTorch, eager, one thread, fused Adam."""
    import torch
    import torch_gpt

    torch.set_num_threads(1)
    torch.manual_seed(42)
    data = torch_gpt.Documents(documents(size), size.block_size)
    sizes = {"block_size": size.block_size, "n_layer": size.n_layer, "n_embd": size.n_embd}
    model = torch_gpt.TorchGPT(vocab_size=data.vocab_size, n_head=4, std=0.08, **sizes)
    adam = {"lr": LR, "beta1": 0.85, "beta2": 0.99, "eps": 1e-8}
    return torch_gpt.TorchTrainer(
        model, data, batch_size=size.batch_size, num_steps=NUM_STEPS, **adam
    ).step


def recorded_step(trainer: Trainer) -> Callable[[], object]:
    """A step of the native engine as it is for a batch whose shape was never seen before."""
    engine = trainer.engine
    assert isinstance(engine, NativeEngine)

    def step() -> object:
        engine.forget_programs()
        return trainer.train_step()

    return step


Turn = Callable[[], float]  # runs for about SLICE, and returns the seconds of CPU a step


def timed(step: Callable[[], object]) -> Turn:
    """A turn of this process."""
    step()
    begun = process_time()
    step()
    step()
    once = (process_time() - begun) / 2
    count = max(1, round(SLICE / max(once, 1e-6)))

    def turn() -> float:
        begun = process_time()
        for _ in range(count):
            step()
        return (process_time() - begun) / count

    return turn


def original_turn(file: Path) -> Turn:
    """The original program, alone in a process: its garbage collector walks all that is loaded."""
    words = [sys.executable, str(Path(__file__).with_name("original.py")), str(file), "10"]

    def turn() -> float:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return float(done.stdout)

    return turn


def floor_turn(name: str, size: Size, folder: Path) -> Turn:
    """The C program, once its losses are found to be the vector engine's."""
    import floor

    run = floor.build(name, size, folder)
    floor.check(name, size, folder, run)
    count = max(10, round(SLICE / run("time", 20)[0]))
    return lambda: run("time", count)[0]


def rivals(size: Size, folder: Path) -> Iterator[tuple[str, Turn]]:
    """Every rival that can run this size in a time worth waiting for."""
    work = size.n_embd**2 * size.batch_size * size.n_layer * size.block_size
    engines = ["scalar"] if work <= 64**2 * 16 else []
    engines += ["vector", "numpy float64", "numpy float32"]
    for engine in engines:
        yield engine, timed(trainer(engine, size, folder).train_step)
    if size == Size():
        yield "original", original_turn(folder / f"block-{size.block_size}.txt")
        yield "vector on libm", timed(libm_step(trainer("vector", size, folder)))
    if find_spec("torch"):
        yield "torch float32", timed(torch_step(size))
    if not problem():
        yield "native", timed(warmed(trainer("native", size, folder).train_step))
        yield "native recorded", timed(recorded_step(trainer("native", size, folder)))
        yield "C floor", floor_turn("C floor", size, folder)
        yield "C floor fast-math", floor_turn("C floor fast-math", size, folder)


def warmed(step: Callable[[], object]) -> Callable[[], object]:
    """The step, once two batches of the usual shapes were seen."""
    for _ in range(100):
        step()
    return step
