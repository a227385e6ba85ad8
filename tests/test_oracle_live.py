"""PyTorch itself: the recorded figures are what it computes, and the bench's rival trains as we do."""

from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from tests.oracle.case import far_apart, names, recorded

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not find_spec("torch"), reason="no PyTorch: pip install -e '.[bench]'"),
]

ROOT = Path(__file__).parents[1]


def test_the_recorded_figures() -> None:
    from tests.oracle.record import CASES, compute

    assert sorted(CASES) == names()
    for name in CASES:
        within = 0.02 if name == "muon_bfloat16" else 1e-9  # roundings may fall otherwise elsewhere
        assert far_apart(compute(name), recorded(name), within) == [], name


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The bench's own modules."""
    monkeypatch.syspath_prepend(str(ROOT / "experiments/speed"))
    import rivals  # type: ignore[import-not-found]
    import torch_gpt  # type: ignore[import-not-found]

    return rivals, torch_gpt


def test_the_rival_trains_as_we_do(bench: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    """Its whole loop, padded batches, fused Adam and linear rate included, on equal weights."""
    rivals, torch_gpt = bench
    size = rivals.Size(batch_size=4)
    ours = rivals.trainer("numpy float64", size, tmp_path)
    documents = torch_gpt.Documents(ours.corpus.split.train, size.block_size)
    sizes = {"block_size": 16, "n_layer": 1, "n_head": 4, "n_embd": 16, "std": 0.08}
    theirs = torch_gpt.TorchGPT(vocab_size=documents.vocab_size, **sizes).double()
    theirs.load(ours.engine.flat(ours.weights))
    adam = {"lr": rivals.LR, "beta1": 0.85, "beta2": 0.99, "eps": 1e-8}
    loop = torch_gpt.TorchTrainer(
        theirs, documents, batch_size=4, num_steps=rivals.NUM_STEPS, **adam
    )
    for _ in range(20):
        assert ours.train_step().loss == pytest.approx(loop.step(), rel=1e-6)
    trained = ours.engine.flat(ours.weights)
    for name, weight in theirs.named_weights().items():
        assert trained[name] == pytest.approx(weight.flatten().tolist(), rel=1e-6, abs=1e-7), name
