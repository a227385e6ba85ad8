"""muP's promise: what training changes does not depend on the width."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from microgpt.ablation.coordinates import exponent, moves
from microgpt.build import resolve
from tests.options.choices import CONF

WIDTHS = (16, 32, 64)


def config(init: str) -> dict[str, Any]:
    words = ["model.norm_final=true", "schedule=constant", "trainer.batch_size=8"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return resolve(compose("train", [f"model/init={init}", "tracking=none", *words]))


def test_activations_move_as_far_at_every_width_with_mup_and_further_without() -> None:
    mup, plain = (moves(config(init), WIDTHS, 3) for init in ("mup", "normal"))
    assert mup.keys() == {"attn", "mlp", "logits"}
    for name in mup:
        assert mup[name][0] == pytest.approx(plain[name][0])  # the base width
        assert abs(exponent(WIDTHS, mup[name])) < 0.5
    assert abs(exponent(WIDTHS, mup["logits"])) < 0.15
    assert exponent(WIDTHS, plain["logits"]) > 0.7
