"""PyTorch as an outside oracle: loss and every gradient of the whole model, on equal weights."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from microgpt.core.data import Batch, make_batch
from microgpt.core.engine.base import Engine
from microgpt.core.layers.init.gauss import Gauss
from microgpt.core.tokenizer import CharTokenizer
from microgpt.core.trainer import Trainer
from tests.engines import ENGINES, engines
from tests.models import ADAM, NAMES, trainer_of

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def rival() -> ModuleType:
    sys.path.insert(0, str(ROOT / "experiments/speed"))
    try:
        import torch_gpt  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    return torch_gpt  # type: ignore[no-any-return]


def pair(rival: ModuleType, ops: Engine, **sizes: int) -> tuple[Trainer, Any]:
    """Our model with its weights, and PyTorch's with the same."""
    init = Gauss(std=0.5)  # large weights, so that nothing is nearly linear
    ours = trainer_of(ops, init=init, num_steps=20, **sizes)
    dims = ours.model.dims
    names = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
    theirs = rival.TorchGPT(**{name: getattr(dims, name) for name in names}, std=0.08).double()
    theirs.load(ops.flat(ours.weights))
    return ours, theirs


def batch_of(documents: list[str]) -> Batch:
    encode = CharTokenizer("".join(NAMES)).document
    return make_batch([encode(document)[:9] for document in documents])


@engines
@pytest.mark.parametrize(
    ("n_layer", "n_head", "n_embd", "batch_size"), [(1, 4, 16, 1), (2, 2, 8, 3), (1, 1, 4, 4)]
)
def test_loss_and_gradients(
    rival: ModuleType,
    factory: Callable[[], Engine],
    n_layer: int,
    n_head: int,
    n_embd: int,
    batch_size: int,
) -> None:
    ops = factory()
    documents = rival.Documents(NAMES, block_size=8)
    ours, theirs = pair(rival, ops, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
    objective, loss = ours._forward(ops, ours.weights, batch_of(NAMES[:batch_size]))
    ops.backward(objective)

    expected = theirs.loss(*documents.batch(0, batch_size))
    expected.backward()
    assert ops.values(loss)[0][0] == pytest.approx(expected.item(), rel=1e-9)
    gradients = ops.flat(ops.gradients(ours.weights))
    theirs_by_name = theirs.named_gradients()
    assert gradients.keys() == theirs_by_name.keys() == theirs.named_weights().keys()
    for name, gradient in theirs_by_name.items():
        numbers = gradient.flatten().tolist()
        scale = max(map(abs, numbers))
        assert gradients[name] == pytest.approx(numbers, rel=1e-9, abs=1e-9 * scale), name


def test_training_steps(rival: ModuleType) -> None:
    """The rival's whole loop, fused Adam and linear rate included, computes what ours does."""
    ours, theirs = pair(rival, ENGINES["numpy"](), batch_size=4)
    documents = rival.Documents(ours.corpus.split.train, block_size=8)
    loop = rival.TorchTrainer(theirs, documents, batch_size=4, num_steps=20, **ADAM)
    for _ in range(20):
        assert ours.train_step().loss == pytest.approx(loop.step(), rel=1e-6)
