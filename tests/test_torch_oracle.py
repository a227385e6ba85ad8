"""PyTorch as an outside oracle: loss and every gradient of the whole model, on equal weights."""

import sys
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from microgpt.core.model import GPT

from microgpt.accelerate import NumpyEngine
from microgpt.core.data import make_batch, read_documents
from microgpt.core.engine.base import Engine
from microgpt.core.engine.scalar import ScalarEngine
from microgpt.core.layers.activation.relu import ReLU
from microgpt.core.layers.attention.multihead import MultiHead
from microgpt.core.layers.head.untied import Untied
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.layers.mlp.feedforward import FeedForward
from microgpt.core.layers.norm.rmsnorm import RMSNorm
from microgpt.core.layers.position.learned import Learned
from microgpt.core.optim.adam import Adam
from microgpt.core.streams.single import Single
from microgpt.core.tokenizer import CharTokenizer
from microgpt.vector.engine import VectorEngine

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
DOCUMENTS = read_documents((ROOT / "tests/golden/names_tiny.txt").read_text())
ADAM = {"lr": 0.01, "beta1": 0.85, "beta2": 0.99, "eps": 1e-8}


@pytest.fixture(scope="module")
def rival() -> ModuleType:
    sys.path.insert(0, str(ROOT / "experiments/speed"))
    try:
        import torch_gpt  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return torch_gpt  # type: ignore[no-any-return]


def pair(rival: ModuleType, ops: Engine, dims: dict[str, int]) -> tuple[GPT, dict[str, Any], Any]:
    """Our model with its weights, and PyTorch's with the same."""
    model = GPT(
        **dims,
        norm=RMSNorm(eps=1e-5),
        activation=ReLU(),
        position=Learned(),
        attention=MultiHead(),
        mlp=FeedForward(expansion=4),
        head=Untied(),
        init=Gauss(std=0.5),  # large weights, so that nothing is nearly linear
    )
    weights = model.weights(ops, Single(seed=7))
    theirs = rival.TorchGPT(**dims, std=0.08).double()
    theirs.load(ops.flat(weights))
    return model, weights, theirs


@pytest.mark.parametrize(
    "engine", [ScalarEngine, VectorEngine, lambda: NumpyEngine(dtype="float64")]
)
@pytest.mark.parametrize(
    ("n_layer", "n_head", "n_embd", "batch_size"), [(1, 4, 16, 1), (2, 2, 8, 3), (1, 1, 4, 4)]
)
def test_loss_and_gradients(
    rival: ModuleType, engine: Any, n_layer: int, n_head: int, n_embd: int, batch_size: int
) -> None:
    ops: Engine = engine()
    documents = rival.Documents(DOCUMENTS, block_size=8)
    dims = {"block_size": 8, "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}
    dims["vocab_size"] = documents.vocab_size
    model, weights, theirs = pair(rival, ops, dims)

    batch = make_batch(DOCUMENTS[:batch_size], CharTokenizer("".join(DOCUMENTS)), 8)
    logits = model(ops, weights, batch.tokens, batch.spans)
    loss = ops.mean(ops.cross_entropy(logits, batch.targets))
    ops.backward(loss)

    expected = theirs.loss(*documents.batch(0, batch_size))
    expected.backward()
    assert ops.values(loss)[0][0] == pytest.approx(expected.item(), rel=1e-9)
    gradients = ops.gradients(weights)
    theirs_by_name = theirs.named_gradients()
    assert gradients.keys() == theirs_by_name.keys() == theirs.named_weights().keys()
    for name, gradient in theirs_by_name.items():
        numbers = gradient.flatten().tolist()
        scale = max(map(abs, numbers))
        assert gradients[name] == pytest.approx(numbers, rel=1e-9, abs=1e-9 * scale), name


def test_training_steps(rival: ModuleType) -> None:
    """The rival's whole loop, fused Adam and linear rate included, computes what ours does."""
    ops = NumpyEngine(dtype="float64")
    lines = list(DOCUMENTS)
    Random(1).shuffle(lines)
    documents = rival.Documents(lines, block_size=8)
    dims = {"vocab_size": documents.vocab_size, "block_size": 8}
    dims |= {"n_layer": 1, "n_head": 2, "n_embd": 8}
    model, weights, theirs = pair(rival, ops, dims)
    loop = rival.TorchTrainer(theirs, documents, batch_size=4, num_steps=20, **ADAM)
    optimizer = Adam(**ADAM)
    optimizer.prepare(model.shapes(), dict.fromkeys(weights, 1.0))
    for step in range(20):
        part = [lines[i % len(lines)] for i in range(4 * step, 4 * step + 4)]
        batch = make_batch(part, CharTokenizer("".join(lines)), 8)
        logits = model(ops, weights, batch.tokens, batch.spans)
        loss = ops.mean(ops.cross_entropy(logits, batch.targets))
        ops.backward(loss)
        ops.update(weights, optimizer, 0.01 * (1 - step / 20), None, False)
        assert ops.values(loss)[0][0] == pytest.approx(loop.step(), rel=1e-6)
