"""The whole GPT in PyTorch: loss and the gradient of every weight."""

from collections.abc import Mapping
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.oracle.case import Case, Rows, numbers
from tests.oracle.layers import EPS, gradient

VOCAB, BLOCK, EXPANSION = 7, 6, 4
# The documents of each batch, as tokens; 6 is what begins and ends one.
BATCHES = [[[6, 0, 3, 3, 1, 6], [6, 2, 6]], [[6, 5, 4, 0, 6]]]


def shapes(n_layer: int, n_embd: int, sites: list[str]) -> dict[str, tuple[int, int]]:
    """Every weight's shape; `sites` are the norms that have a gain."""
    found = {"wte": (VOCAB, n_embd), "wpe": (BLOCK, n_embd), "lm_head": (VOCAB, n_embd)}
    for i in range(n_layer):
        square = dict.fromkeys(("attn_wq", "attn_wk", "attn_wv", "attn_wo"), (n_embd, n_embd))
        hidden = EXPANSION * n_embd
        block = square | {"mlp_fc1": (hidden, n_embd), "mlp_fc2": (n_embd, hidden)}
        found |= {f"layer{i}.{name}": shape for name, shape in block.items()}
    return found | {f"{site}.gain": (1, n_embd) for site in sites}


def norm_sites(n_layer: int, norm_embd: bool, norm_final: bool) -> list[str]:
    """The places of all norms."""
    inner = [f"layer{i}.{site}" for i in range(n_layer) for site in ("norm_attn", "norm_mlp")]
    return ["norm_embd"] * norm_embd + inner + ["norm_final"] * norm_final


class Model:
    """The forward pass, by PyTorch's own functions."""

    def __init__(self, w: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        self.w, self.s = w, settings
        self.width = settings["n_embd"]

    def norm(self, x: Tensor, site: str) -> Tensor:
        """The norm of a site; with its gain where it has one."""
        if self.s["norm"] == "layernorm":
            return F.layer_norm(x, (self.width,), eps=EPS)
        gain = self.w.get(f"{site}.gain")
        return F.rms_norm(x, (self.width,), None if gain is None else gain[0], EPS)

    def attention(self, x: Tensor, at: str) -> Tensor:
        """Causal self-attention of one document."""

        def heads(name: str) -> Tensor:
            return F.linear(x, self.w[at + name]).view(len(x), self.s["n_head"], -1).transpose(0, 1)

        mixed = F.scaled_dot_product_attention(
            heads("attn_wq"), heads("attn_wk"), heads("attn_wv"), is_causal=True
        )
        return F.linear(mixed.transpose(0, 1).reshape(x.shape), self.w[at + "attn_wo"])

    def mlp(self, x: Tensor, at: str) -> Tensor:
        """The feed-forward block."""
        hidden = F.linear(x, self.w[at + "mlp_fc1"])
        relu = self.s["activation"] == "relu"
        active = F.relu(hidden) if relu else F.gelu(hidden, approximate="tanh")
        return F.linear(active, self.w[at + "mlp_fc2"])

    def layer(self, x: Tensor, at: str) -> Tensor:
        """One block, its norms before or after what they belong to."""
        share = self.s["residual"]
        for part, site in ((self.attention, "norm_attn"), (self.mlp, "norm_mlp")):
            if self.s["block"] == "pre_norm":
                x = share * x + part(self.norm(x, at + site), at)
            else:
                x = self.norm(share * x + part(x, at), at + site)
        return x

    def logits(self, tokens: list[int]) -> Tensor:
        """`[T][VOCAB]` of one document."""
        x = self.w["wte"][torch.tensor(tokens)] + self.w["wpe"][: len(tokens)]
        x = self.norm(x, "norm_embd") if self.s["norm_embd"] else x
        for i in range(self.s["n_layer"]):
            x = self.layer(x, f"layer{i}.")
        x = self.norm(x, "norm_final") if self.s["norm_final"] else x
        return F.linear(x, self.w["lm_head"])

    def loss(self, documents: list[list[int]]) -> Tensor:
        """The mean over all tokens of what this case minimises."""
        logits = torch.cat([self.logits(document[:-1]) for document in documents])
        targets = torch.tensor([token for document in documents for token in document[1:]])
        loss = F.cross_entropy(logits, targets, label_smoothing=self.s.get("smoothing", 0.0))
        z = logits.logsumexp(-1).square().mean()
        return loss + self.s.get("z_weight", 0.0) * z


def batch(documents: list[list[int]]) -> dict[str, Any]:
    """Documents one behind another, as the engines have them."""
    tokens: list[int] = []
    targets: list[int] = []
    spans = []
    for document in documents:
        spans.append([len(tokens), len(tokens) + len(document) - 1])
        tokens += document[:-1]
        targets += document[1:]
    return {"tokens": tokens, "targets": targets, "spans": spans}


def gpt(
    *,
    n_layer: int = 2,
    n_head: int = 2,
    n_embd: int = 4,
    norm: str = "rmsnorm",
    activation: str = "relu",
    block: str = "pre_norm",
    residual: float = 1.0,
    norm_embd: bool = True,
    norm_final: bool = False,
    batches: int = 1,
    **more: float,
) -> Case:
    """Loss and gradients of all batches together; `more` is `smoothing` or `z_weight`."""
    sites = norm_sites(n_layer, norm_embd, norm_final) if norm == "rmsnorm_gain" else []
    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "block_size": BLOCK,
        "expansion": EXPANSION,
        "eps": EPS,
        "n_layer": n_layer,
        "n_head": n_head,
        "n_embd": n_embd,
        "norm": norm,
        "activation": activation,
        "block": block,
        "residual": residual,
        "norm_embd": norm_embd,
        "norm_final": norm_final,
        **more,
    }
    rng = Random(7)
    wanted = shapes(n_layer, n_embd, sites).items()
    weights: dict[str, Rows] = {name: numbers(rng, *shape) for name, shape in wanted}
    tensors = {name: torch.tensor(rows, requires_grad=True) for name, rows in weights.items()}
    value = Model(tensors, settings).loss([doc for docs in BATCHES[:batches] for doc in docs])
    value.backward()
    return {
        "kind": "gpt",
        "settings": settings,
        "batches": [batch(documents) for documents in BATCHES[:batches]],
        "weights": weights,
        "loss": value.item(),
        "gradients": {name: gradient(tensor) for name, tensor in tensors.items()},
    }
