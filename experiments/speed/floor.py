"""The floor as a rival: floor.c, compiled for each size, with the weights and documents of a trainer.

It runs in a process of its own, like the original program: -ffast-math, linked into a library, would make
the processor round subnormal numbers to 0 in all that shares the process.
"""

import subprocess
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path

from rivals import LR, NUM_STEPS, Size, trainer

from microgpt.native.library import compiler

SOURCE = Path(__file__).with_name("floor.c")
FLAGS = {
    "C floor": ("-O3", "-march=native"),
    "C floor fast-math": ("-O3", "-march=native", "-ffast-math"),
}
TOLERANCE = {"C floor": 1e-9, "C floor fast-math": 1e-6}
CHECKED = 4e6  # numbers of weights times rows of the steps whose losses are compared: some seconds at most


def build(name: str, size: Size, folder: Path) -> Callable[..., list[float]]:
    """A command of the compiled program, with `losses` or `time` and a number of steps."""
    run, command = trainer("vector", size, folder), compiler()
    assert command is not None
    program, file = folder / f"{name} {size}", folder / f"{size}.bin"
    sizes = {"N_EMBD": size.n_embd, "BATCH": size.batch_size, "N_LAYER": size.n_layer}
    sizes |= {"BLOCK": size.block_size, "VOCAB": run.corpus.tokenizer.vocab_size}
    defined = [f"-D{key}={value}" for key, value in sizes.items()]
    subprocess.run(
        [*command, *FLAGS[name], *defined, str(SOURCE), "-lm", "-o", str(program)], check=True
    )
    documents = [run.corpus.tokenizer.document(text) for text in run.corpus.split.train]
    with file.open("wb") as to:
        array("d", [LR, 0.85, 0.99, 1e-8, NUM_STEPS]).tofile(to)
        for numbers in run.engine.flat(run.weights).values():
            array("d", numbers).tofile(to)
        array("q", [len(documents)]).tofile(to)
        for ids in documents:
            array("q", [len(ids), *ids]).tofile(to)

    def command_of(what: str, steps: int) -> list[float]:
        words = [str(program), str(file), what, str(steps)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return [float(word) for word in done.stdout.split()]

    return command_of


def check(name: str, size: Size, folder: Path, floor: Callable[..., list[float]]) -> None:
    """That its losses are the vector engine's, of a few steps at least."""
    expected = vector_losses(size, folder)
    for at, (loss, wanted) in enumerate(zip(floor("losses", len(expected)), expected), start=1):
        assert abs(loss - wanted) <= TOLERANCE[name] * wanted, (name, size, at, loss, wanted)


@cache
def vector_losses(size: Size, folder: Path) -> list[float]:
    """Of as many steps as some seconds allow."""
    steps = max(3, min(50, round(CHECKED / (12 * size.n_embd**2 * size.batch_size * 16))))
    run = trainer("vector", size, folder)
    return [run.train_step().loss for _ in range(steps)]
