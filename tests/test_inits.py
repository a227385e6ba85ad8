"""Initialisations: sizes of the numbers, and what muP promises."""

import math
from random import Random

import pytest

from microgpt.core.engine.shapes import Rows
from microgpt.core.layers.base import Dims, Init
from microgpt.core.layers.init.mup import MuP
from microgpt.core.layers.init.normal import Normal
from microgpt.core.layers.init.orthogonal import Orthogonal
from microgpt.core.layers.init.scaled_residual import ScaledResidual
from microgpt.core.weight import Role, Weight

ROLES: tuple[Role, ...] = ("embedding", "matrix", "residual_out", "output")


def drawn(init: Init, role: Role, n_embd: int = 32, n_layer: int = 2) -> Rows:
    dims = Dims(vocab_size=32, block_size=8, n_layer=n_layer, n_head=4, n_embd=n_embd)
    return init(Weight(128, n_embd, role), dims, Random(5))


def size(rows: Rows) -> float:
    """The root of the mean square."""
    numbers = [x for row in rows for x in row]
    return math.sqrt(math.fsum(x * x for x in numbers) / len(numbers))


def test_scaled_residual_shrinks_what_is_added_to_the_stream() -> None:
    """By sqrt(2 n_layer), of numbers that are otherwise those of normal."""
    for n_layer in (1, 2, 8):
        found, plain = (
            {role: drawn(init, role, n_layer=n_layer) for role in ROLES}
            for init in (ScaledResidual(std=0.08), Normal(std=0.08))
        )
        share = 1 / math.sqrt(2 * n_layer)
        assert found["residual_out"] == [[share * x for x in r] for r in plain["residual_out"]]
        assert all(found[role] == plain[role] for role in ("embedding", "matrix", "output"))


@pytest.mark.parametrize("shape", [(5, 5), (12, 4), (4, 12), (1, 6)])
def test_orthogonal_matrices_have_equal_singular_values(shape: tuple[int, int]) -> None:
    numpy = pytest.importorskip("numpy")
    dims = Dims(vocab_size=4, block_size=2, n_layer=1, n_head=1, n_embd=4)
    init = Orthogonal(std=0.08, gain=0.5)
    for role in ("matrix", "residual_out"):
        rows = init(Weight(*shape, role), dims, Random(0))  # type: ignore[arg-type]
        assert (len(rows), len(rows[0])) == shape
        assert numpy.linalg.svd(numpy.array(rows))[1] == pytest.approx(0.5, rel=1e-12)
    assert drawn(init, "embedding") == drawn(Normal(std=0.08), "embedding")
    assert drawn(init, "output") == drawn(Normal(std=0.08), "output")


def test_mup_is_the_normal_initialisation_at_the_base_width() -> None:
    mup, normal = MuP(std=0.08, base_n_embd=32, base_head_dim=8), Normal(std=0.08)
    dims = Dims(vocab_size=32, block_size=8, n_layer=2, n_head=4, n_embd=32)
    for role in ROLES:
        assert drawn(mup, role) == drawn(normal, role)
        assert mup.lr_scale(Weight(8, 32, role), dims) == 1
    assert mup.attention_scale(dims) == pytest.approx(1 / math.sqrt(dims.head_dim))
    assert mup.output_scale(dims) == 1


def test_mup_scales_with_the_width_as_table_8_says() -> None:
    """Hidden: variance and rate by 1 / m; logits by 1 / m; scores by 1 / head_dim."""
    mup, m = MuP(std=0.08, base_n_embd=8, base_head_dim=2), 4
    dims = Dims(vocab_size=32, block_size=8, n_layer=2, n_head=4, n_embd=8 * m)
    for role in ROLES:
        hidden = role in ("matrix", "residual_out")
        shares = size(drawn(mup, role)) / size(drawn(Normal(std=0.08), role))
        assert shares == pytest.approx(m**-0.5 if hidden else 1)
        assert mup.lr_scale(Weight(8, 32, role), dims) == (1 / m if hidden else 1)
    assert mup.output_scale(dims) == 1 / m
    assert mup.attention_scale(dims) == pytest.approx(math.sqrt(2) / dims.head_dim)
