"""A walk through the operations of a model: its equations, and how they are drawn."""

from collections.abc import Sequence
from random import Random
from typing import Any, cast

import numpy as np
import pytest

from microgpt.ablation.inspect.steps import steps
from microgpt.ablation.inspect.walk import Walk, walk
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.activation.gelu import GELU
from microgpt.core.layers.activation.silu import SiLU
from microgpt.core.layers.attention.grouped_query import GroupedQuery
from microgpt.core.layers.base import Dims
from microgpt.core.layers.block.sandwich import Sandwich
from microgpt.core.layers.head.soft_capped import SoftCapped
from microgpt.core.layers.head.tied import Tied
from microgpt.core.layers.mlp.gated import Gated
from microgpt.core.layers.norm.layernorm_affine import LayerNormAffine
from microgpt.core.layers.position.rope import RoPE
from microgpt.core.layers.position.sinusoidal import Sinusoidal
from microgpt.core.models.base import Model
from microgpt.vector.engine import VectorEngine
from tests.equations import Equations
from tests.models import trainer_of
from tests.test_inspect import checked

MODELS: dict[str, dict[str, Any]] = {
    "microgpt": {},
    "gpt2": {"norm": LayerNormAffine(eps=1e-5), "activation": GELU(), "bias": True, "n_layer": 2},
    "llama": {
        "position": RoPE(base=1e4),
        "mlp": Gated(expansion=4),
        "activation": SiLU(),
        "attention": GroupedQuery(n_kv_head=1),
        "head": SoftCapped(cap=15.0),
        "norm_qk": True,
    },
    "sandwich": {
        "block": Sandwich(residual=1.5),
        "position": Sinusoidal(amplitude=0.1),
        "head": Tied(),
    },
}


class Own:
    """A model without parts, of operations that the others do not have."""

    dims = Dims(vocab_size=6, block_size=3, n_layer=0, n_head=1, n_embd=6)

    def __call__(self, ops: Engine, w: Weights, tokens: Sequence[int], *_: object) -> Matrix:
        x = ops.gather(w["wte"], tokens)  # [3][6], above 0
        squares = ops.concat_rows([ops.gather(x, [1]), ops.gather(x, [0, 2]) ** -1.5])
        y = ops.exp(x) / ops.row_sum(x) + ops.log(squares) / ops.gather(x, [0])
        y = y / 3 * ops.sigmoid(y - ops.row_max(y)) + ops.logsumexp(x) + ops.sign(x)
        return ops.softmax(ops.transpose(ops.transpose(y))) * ops.relu(x - 0.5)


def check_equations(seen: Walk) -> None:
    """Forward and backward, each gives its numbers from those of the other operations."""
    said = Equations(seen)
    for operation in seen.operations:
        if operation.equation != "given":
            np.testing.assert_allclose(said.value(operation), operation.value, 1e-5, 1e-12)
    for operation in [*seen.operations, *seen.weights]:
        if operation.gradient is not None and operation is not seen.loss:
            np.testing.assert_allclose(said.gradient(operation), operation.gradient, 1e-5, 1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_equations_of_a_walk_give_its_numbers(name: str) -> None:
    trainer = trainer_of(VectorEngine(), **MODELS[name])
    rows = {name: trainer.engine.values(weight) for name, weight in trainer.weights.items()}
    seen = walk(trainer.model, rows, [0, 5, 2], [5, 2, None])
    check_equations(seen)
    assert {weight.name for weight in seen.weights if weight.gradient} == rows.keys()


def test_a_walk_through_a_model_of_ones_own() -> None:
    rng = Random(1)
    rows = {"wte": [[rng.uniform(0.1, 2) for _ in range(6)] for _ in range(6)]}
    seen = walk(cast(Model, Own()), rows, [0, 5, 2], [5, 2, 1])
    check_equations(seen)
    assert seen.weights[0].gradient
    assert [operation.name for operation in seen.operations].count("logits") == 1


def test_a_page_shows_the_first_and_the_last_layer_in_full() -> None:
    trainer = trainer_of(VectorEngine(), n_layer=4)
    rows = {name: trainer.engine.values(weight) for name, weight in trainer.weights.items()}
    seen = walk(trainer.model, rows, [0, 5, 2, 1, 3], [None] * 5)
    assert seen.loss is None  # nothing is known to follow
    text = steps(seen, "abcde", [*trainer.corpus.tokenizer.characters, "■"])
    checked(text)
    assert "Embeddings: #1 to #4" in text
    for layer, count in enumerate((1, 0, 0, 1)):
        _, _, own = text.partition(f"Layer {layer}: ")
        assert own.partition('class="group"')[0].count("mlp hidden <code>") == count
    assert len(seen.operations) == text.count("<b>#")
