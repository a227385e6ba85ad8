"""Write what PyTorch computes to `recorded/`, for tests that run without it.

    pip install -e '.[test,bench]' && python tests/oracle/record.py

A case is one entry of CASES. All is computed with doubles; inputs have three decimals.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.oracle import layers, rules
from tests.oracle.case import RECORDED, Case, text_of
from tests.oracle.gpt import ACTIVATIONS, gpt

POST = {"block": "post_norm", "norm_embd": False}
NOTHING = {"norm": "none", "residual": 0.0}
GPT2 = {
    "norm": "layernorm_affine",
    "activation": "gelu",
    "head": "tied",
    "norm_embd": False,
    "norm_final": True,
    "bias": True,
}
LLAMA = {
    "n_head": 4,
    "n_embd": 8,
    "norm": "rmsnorm_gain",
    "activation": "silu",
    "position": "rope",
    "attention": "grouped_query",
    "n_kv_head": 2,
    "mlp": "gated",
    "norm_embd": False,
    "norm_final": True,
}
NANOCHAT = {
    "activation": "relu2",
    "position": "rope",
    "norm_final": True,
    "norm_qk": True,
    "head": "soft_capped",
    "cap": 2.0,
}
CASES: dict[str, Callable[[], Case]] = {
    "rmsnorm": layers.rmsnorm,
    "rmsnorm_gain": layers.rmsnorm_gain,
    "layernorm": layers.layernorm,
    "layernorm_affine": layers.layernorm_affine,
    **{name: partial(layers.activation, of) for name, of in ACTIVATIONS.items()},
    "cross_entropy": layers.cross_entropy,
    "label_smoothing": layers.label_smoothing,
    "z_loss": layers.z_loss,
    "gpt": gpt,
    "gpt_one_head": partial(gpt, n_layer=1, n_head=1),
    "gpt_four_heads": partial(gpt, n_layer=1, n_head=4, n_embd=8),
    "gpt_layernorm_gelu": partial(gpt, norm="layernorm", activation="gelu"),
    "gpt_gain_final": partial(gpt, norm="rmsnorm_gain", norm_embd=False, norm_final=True),
    "gpt_post_norm": partial(gpt, norm="layernorm", **POST),
    "gpt_post_norm_gain": partial(gpt, norm="rmsnorm_gain", activation="gelu", **POST),
    "gpt_post_norm_residual": partial(gpt, residual=2.0, **POST),
    "gpt_label_smoothing": partial(gpt, n_layer=1, smoothing=0.1),
    "gpt_z_loss": partial(gpt, n_layer=1, z_weight=0.01),
    "gpt_accumulated": partial(gpt, batches=2),
    "gpt_2": partial(gpt, **GPT2),
    "gpt_llama": partial(gpt, **LLAMA),
    "gpt_nanochat": partial(gpt, **NANOCHAT),
    "gpt_mlp": partial(gpt, **NOTHING, attention="none", position="none"),
    "gpt_attention_alone": partial(gpt, norm="rmsnorm_gain", mlp="none"),
    "gpt_sandwich": partial(gpt, block="sandwich", norm="layernorm_affine", residual=0.5),
    "gpt_parallel": partial(gpt, block="parallel", norm="rmsnorm_gain", activation="tanh"),
    "gpt_alibi": partial(gpt, position="alibi", n_head=4, n_embd=8, n_layer=1),
    "gpt_sinusoidal": partial(gpt, position="sinusoidal", amplitude=0.5),
    "gpt_window": partial(gpt, attention="sliding_window", window=2),
    "gpt_window_alibi": partial(gpt, attention="sliding_window", window=3, position="alibi"),
    "gpt_multi_query": partial(gpt, attention="grouped_query", n_kv_head=1, norm_qk=True),
    "gpt_mup": partial(gpt, scale=0.25, logits=0.5),
    "adam": rules.adam,
    "adam_half_life": partial(rules.adam_half_life, half_life=30.0, tokens=7.0),
    "adamw": partial(rules.adamw, decayed="all"),
    "adamw_matrices": partial(rules.adamw, decayed="matrices"),
    "sgd": partial(rules.sgd, momentum=0.0),
    "sgd_momentum": partial(rules.sgd, momentum=0.9),
    "nesterov": partial(rules.sgd, momentum=0.9, nesterov=True),
    "lion": rules.lion,
    "muon": partial(rules.muon, bfloat16=False),
    "muon_bfloat16": partial(rules.muon, bfloat16=True),
}


def compute(name: str) -> Case:
    """A case, computed now."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return CASES[name]()
    finally:
        torch.set_default_dtype(before)


def main() -> None:
    torch.set_num_threads(1)
    RECORDED.mkdir(exist_ok=True)
    for file in RECORDED.glob("*.json"):
        file.unlink()
    for name in CASES:
        (RECORDED / f"{name}.json").write_text(text_of(compute(name)), encoding="utf-8")
    print(f"PyTorch {torch.__version__}: {len(CASES)} cases in {RECORDED}")


if __name__ == "__main__":
    main()
