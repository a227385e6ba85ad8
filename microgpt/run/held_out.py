"""held_out.safetensors: the nats of every test document under the final weights of a run.

Tensors: `nats` (F64) and `tokens` (I64), `[documents]`, sums over the predicted tokens of each document, in
the order of the test part; of running text, a document is a window. Two runs with the same `targets_sha256`
in the metadata predicted the same tokens, so that their nats can be compared.
"""

import math
import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from struct import pack
from typing import Literal

from microgpt.core.data import Batch
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import (
    DIGEST,
    UNREADABLE,
    Tensors,
    digest,
    parse_tensors,
    write_tensors,
)
from microgpt.run.reading import BadRecord

HELD_OUT = "held_out.safetensors"


@dataclass(frozen=True)
class HeldOut:
    """The nats and the predicted tokens of each document."""

    nats: list[float]
    tokens: list[int]
    targets_sha256: str


def measure(trainer: Trainer) -> HeldOut:
    """Evaluates every test document with the weights of `trainer`, in the batches of `test/loss`."""
    engine, batches = trainer.engine, batches_of(trainer, "test")
    weights = {name: engine.detached(weight) for name, weight in trainer.weights.items()}
    nats: list[float] = []
    for batch in batches:
        logits = trainer.model(engine, weights, batch.tokens, batch.spans)
        losses = [loss for (loss,) in engine.values(engine.cross_entropy(logits, batch.targets))]
        nats += [math.fsum(losses[start:stop]) for start, stop in batch.spans]
    tokens = [stop - start for batch in batches for start, stop in batch.spans]
    return HeldOut(nats, tokens, targets_sha256(batches))


def batches_of(trainer: Trainer, part: Literal["val", "test"]) -> list[Batch]:
    """The batches on which the trainer evaluates a part: its first documents, or the whole test part."""
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
    texts, count = corpus.split.validation, trainer.eval_documents
    if part == "test":
        texts, count = corpus.split.test, sys.maxsize
    return list(corpus.held_out(texts, count, trainer.batch_size, block_size))


def targets_sha256(batches: Iterable[Batch]) -> str:
    """sha256 of the targets of every document, however they are batched."""
    state = sha256()
    for batch in batches:
        for start, stop in batch.spans:
            state.update(pack(f"<{stop - start + 1}q", stop - start, *batch.targets[start:stop]))
    return state.hexdigest()


def write_held_out(path: Path, found: HeldOut) -> None:
    """Writes `found` to `path`, atomically."""
    shape = (len(found.nats),)
    nats, tokens = array("d", found.nats), array("q", found.tokens)
    numbers: Tensors = {"nats": (shape, nats), "tokens": (shape, tokens)}
    write_tensors(path, {"targets_sha256": found.targets_sha256}, numbers)


def held_out_of(content: bytes, path: Path | str) -> HeldOut:
    """Reads the content of a file `path` that `write_held_out` wrote. Raises BadRecord."""
    try:
        metadata, numbers = parse_tensors(content)
        nats, tokens = (list(numbers[name][1]) for name in ("nats", "tokens"))
        found = HeldOut(nats, tokens, metadata["targets_sha256"])
        intact = metadata[DIGEST] == digest(metadata, numbers)
    except UNREADABLE as error:
        raise BadRecord(path, f"does not hold the nats of test documents: {error}") from error
    if not intact:
        raise BadRecord(path, "is damaged: its content is not that of its sha256")
    return found
