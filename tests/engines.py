"""Every engine that `conf/engine` has, and what the tests of their operations have in common."""

from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from microgpt.app import config_path
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.engine.shapes import Rows
from microgpt.vector.engine import VectorEngine

# What an engine may take over; `parameters` and others that make handles are not among it.
DERIVED = (
    *("mean", "sigmoid", "softmax", "logsumexp", "rmsnorm", "cross_entropy", "attention"),
    *("adam", "global_norm", "step"),
)


def derived(engine: type[Engine]) -> type[Engine]:
    """The engine with nothing fused: primitives alone."""
    forms = {name: getattr(Engine, name) for name in DERIVED}
    return type(f"Derived{engine.__name__}", (engine,), forms)


def option(name: str) -> Callable[[], Engine]:
    """Makes the engine of an option, with the values of its file."""
    return partial(instantiate, OmegaConf.load(config_path() / f"engine/{name}.yaml"))


ENGINES: dict[str, Callable[[], Engine]] = {
    **{file.stem: option(file.stem) for file in sorted((config_path() / "engine").glob("*.yaml"))},
    "vector, derived": derived(VectorEngine),
}
EXACT = [name for name, make in ENGINES.items() if make().arithmetic == "exact"]
REFERENCE = derived(ScalarEngine)()

engines = pytest.mark.parametrize("factory", ENGINES.values(), ids=ENGINES)

Case = tuple[list[Rows], Callable[..., Matrix]]  # inputs; (ops, *handles) -> output


class Draw:
    """Shapes and numbers of one example."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)

    def size(self, most: int = 6) -> int:
        return self.rng.randint(1, most)

    def ids(self, n: int, below: int) -> list[int]:
        return [self.rng.randrange(below) for _ in range(n)]

    def rows(self, n_rows: int, n: int, low: float = -2.0, zeros: float = 0.0) -> Rows:
        def number() -> float:
            return 0.0 if self.rng.random() < zeros else self.rng.uniform(low, 2.0)

        return [[number() for _ in range(n)] for _ in range(n_rows)]


def measured(ops: Engine, inputs: list[Rows], run: Callable[..., Matrix]) -> list[float]:
    """What comes out, then the gradients of a weighted sum of it, all in one list."""
    handles = {str(i): ops.parameter(rows) for i, rows in enumerate(inputs)}
    out = run(ops, *handles.values())
    ops.backward(weighted(ops, out))
    gradients = ops.flat(ops.gradients(handles))
    return [*ops.flat({"": out})[""], *(g for grads in gradients.values() for g in grads)]


def weighted(ops: Engine, out: Matrix) -> Matrix:
    """A number `[1][1]` that every entry of the output has another share in."""
    n_rows, n = ops.shape(out)
    shares = Draw(n_rows * n).rows(n_rows, n)
    return ops.row_sum(ops.transpose(ops.row_sum(out * ops.constant(shares))))
