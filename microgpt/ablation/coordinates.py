"""The coordinate check: how far training moves a model's activations, at several widths.

In muP it is as far at every width, in the plain parametrisation further at larger ones (Yang et al. 2022,
arXiv 2203.03466, appendix D.1).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.build import built
from microgpt.core.data import Batch
from microgpt.core.engine.base import Matrix
from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Block, NormAt, Sublayer
from microgpt.core.trainer import Trainer


class Watched(Block):
    """A block that keeps what its sublayers return."""

    def __init__(self, block: Block) -> None:
        super().__init__(residual=block.residual)
        self.block = block
        self.kept: dict[str, Matrix] = {}

    def __call__(self, x: Matrix, norm: NormAt, sublayers: Mapping[str, Sublayer]) -> Matrix:
        def keeping(name: str, sublayer: Sublayer) -> Sublayer:
            def call(x: Matrix) -> Matrix:
                self.kept[name] = sublayer(x)
                return self.kept[name]

            return call

        return self.block(x, norm, {name: keeping(name, each) for name, each in sublayers.items()})


def activations(trainer: Trainer, batch: Batch) -> dict[str, Rows]:
    """Outputs of attention and MLP of the last block, and logits, for a batch."""
    model: Any = trainer.model
    ops, block = trainer.engine, model.block
    model.block = watched = Watched(block)
    weights = {name: ops.detached(w) for name, w in trainer.weights.items()}
    logits = model(ops, weights, batch.tokens, batch.spans)
    model.block = block
    return {name: ops.values(x) for name, x in {**watched.kept, "logits": logits}.items()}


def moves(config: dict[str, Any], widths: Sequence[int], steps: int) -> dict[str, list[float]]:
    """For each activation, the root mean square of its change after `steps` steps, by width.

    config  a resolved configuration of a GPT, whose n_embd is replaced
    """
    found: dict[str, list[float]] = {}
    for width in widths:
        own = {**config, "model": {**config["model"], "n_embd": width}}
        trainer = built(own).trainer
        batch = trainer.corpus.batch(0, 8, trainer.model.dims.block_size)
        before = activations(trainer, batch)
        for _ in range(steps):
            trainer.train_step()
        for name, rows in activations(trainer, batch).items():
            found.setdefault(name, []).append(_apart(rows, before[name]))
    return found


def exponent(widths: Sequence[int], sizes: Sequence[float]) -> float:
    """The slope of log(size) over log(width): 0 if it does not depend on the width."""
    x, y = ([math.log(value) for value in values] for values in (widths, sizes))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    products = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y))
    return products / sum((a - mean_x) ** 2 for a in x)


def _apart(rows: Rows, others: Rows) -> float:
    numbers = [x - y for row, other in zip(rows, others) for x, y in zip(row, other)]
    return math.sqrt(sum(x * x for x in numbers) / len(numbers))
