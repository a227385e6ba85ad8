"""The whole GPT in PyTorch: loss and the gradient of every weight."""

from collections.abc import Callable, Mapping
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
DEFAULTS: dict[str, Any] = {
    "vocab_size": VOCAB,
    "block_size": BLOCK,
    "expansion": EXPANSION,
    "eps": EPS,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 4,
    "norm": "rmsnorm",
    "activation": "relu",
    "block": "pre_norm",
    "residual": 1.0,
    "norm_embd": True,
    "norm_final": False,
    "norm_qk": False,
    "bias": False,
    "position": "learned",
    "attention": "multihead",
    "n_kv_head": 2,  # of multihead as many as n_head
    "window": BLOCK,
    "mlp": "feedforward",
    "head": "untied",
    "cap": 0.0,  # of the logits; 0 is none
    "scale": None,  # of the scores; None is 1 / sqrt(head_dim)
    "logits": 1.0,  # their factor
}
LEARNED = {"rmsnorm_gain": ("gain",), "layernorm_affine": ("gain", "bias")}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}


def shapes(s: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Every weight's shape."""
    n, size = s["n_embd"], s["n_embd"] // s["n_head"]
    found = {"wte": (VOCAB, n)}
    found |= {"wpe": (BLOCK, n)} if s["position"] == "learned" else {}
    found |= {"lm_head": (VOCAB, n)} if s["head"] != "tied" else {}
    block: dict[str, tuple[int, int]] = {}
    if s["attention"] != "none":
        shared = (s["n_kv_head"] * size, n)
        block |= {"attn_wq": (n, n), "attn_wk": shared, "attn_wv": shared, "attn_wo": (n, n)}
    if s["mlp"] != "none":
        hidden = round(2 * EXPANSION * n / 3) if s["mlp"] == "gated" else EXPANSION * n
        block |= {"mlp_gate": (hidden, n)} if s["mlp"] == "gated" else {}
        block |= {"mlp_fc1": (hidden, n), "mlp_fc2": (n, hidden)}
    if s["bias"]:
        block |= {f"{name}.bias": (1, shape[0]) for name, shape in block.items()}
    layers = [f"layer{i}." for i in range(s["n_layer"])]
    found |= {at + name: shape for at in layers for name, shape in block.items()}
    for what in LEARNED.get(s["norm"], ()):
        found |= {f"{site}.{what}": (1, width) for site, width in norm_sites(s, layers)}
    return found


def norm_sites(s: Mapping[str, Any], layers: list[str]) -> list[tuple[str, int]]:
    """The places of all norms, with the number of columns."""
    n, parts = s["n_embd"], [part for part in ("attn", "mlp") if s[_group(part)] != "none"]
    inner = {
        "sandwich": [f"norm_{part}{end}" for part in parts for end in ("", "_out")],
        "parallel": ["norm_block"],
    }.get(s["block"], [f"norm_{part}" for part in parts])
    sites = [(at + site, n) for at in layers for site in inner]
    sites += [("norm_embd", n)] * s["norm_embd"] + [("norm_final", n)] * s["norm_final"]
    size = n // s["n_head"]
    return sites + [(at + f"norm_{x}", size) for at in layers for x in "qk"] * s["norm_qk"]


def _group(part: str) -> str:
    return {"attn": "attention", "mlp": "mlp"}[part]


class Model:
    """The forward pass, by PyTorch's own functions."""

    def __init__(self, w: Mapping[str, Tensor], settings: Mapping[str, Any]) -> None:
        self.w, self.s = w, settings

    def norm(self, x: Tensor, site: str) -> Tensor:
        """The norm of a site, over the last dimension; with its gain and bias where it has them."""
        if self.s["norm"] == "none":
            return x
        width = (x.shape[-1],)
        gain, bias = (self.w.get(f"{site}.{what}") for what in ("gain", "bias"))
        if "layernorm" in self.s["norm"]:
            one = [None if row is None else row[0] for row in (gain, bias)]
            return F.layer_norm(x, width, one[0], one[1], EPS)
        return F.rms_norm(x, width, None if gain is None else gain[0], EPS)

    def linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.w.get(f"{name}.bias")
        return F.linear(x, self.w[name], None if bias is None else bias[0])

    def attention(self, x: Tensor, at: str) -> Tensor:
        """Causal self-attention of one document."""
        size = self.s["n_embd"] // self.s["n_head"]

        def heads(name: str) -> Tensor:
            return self.linear(x, at + name).view(len(x), -1, size).transpose(0, 1)

        q, k, v = (heads(f"attn_w{x}") for x in "qkv")
        if self.s["norm_qk"]:
            q, k = self.norm(q, f"{at}norm_q"), self.norm(k, f"{at}norm_k")
        if self.s["position"] == "rope":
            q, k = rotated(q), rotated(k)
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=self.mask(len(x)), scale=self.s["scale"], enable_gqa=True
        )
        return self.linear(mixed.transpose(0, 1).reshape(len(x), -1), at + "attn_wo")

    def mask(self, n: int) -> Tensor:
        """What is added to the scores, `[n_head][n][n]`."""
        back = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        seen = (back >= 0) & (back < self.s["window"])
        causal = torch.zeros(n, n).masked_fill(~seen, -torch.inf)
        heads = self.s["n_head"]
        slopes = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])
        if self.s["position"] != "alibi":
            slopes = torch.zeros(heads)
        return causal - slopes[:, None, None] * back

    def mlp(self, x: Tensor, at: str) -> Tensor:
        """The feed-forward block, with a gate or without."""
        active = ACTIVATIONS[self.s["activation"]]
        if self.s["mlp"] == "gated":
            gate = active(self.linear(x, at + "mlp_gate"))
            return self.linear(gate * self.linear(x, at + "mlp_fc1"), at + "mlp_fc2")
        return self.linear(active(self.linear(x, at + "mlp_fc1")), at + "mlp_fc2")

    def layer(self, x: Tensor, at: str) -> Tensor:
        """One block."""
        share, block = self.s["residual"], self.s["block"]
        parts: dict[str, Callable[[Tensor, str], Tensor]] = {
            "attn": self.attention,
            "mlp": self.mlp,
        }
        there = {name: part for name, part in parts.items() if self.s[_group(name)] != "none"}
        if block == "parallel":
            read = self.norm(x, at + "norm_block")
            return share * x + sum(part(read, at) for part in there.values())
        for name, part in there.items():
            site = f"{at}norm_{name}"
            if block == "pre_norm":
                x = share * x + part(self.norm(x, site), at)
            elif block == "sandwich":
                x = share * x + self.norm(part(self.norm(x, site), at), f"{site}_out")
            else:
                x = self.norm(share * x + part(x, at), site)
        return x

    def logits(self, tokens: list[int]) -> Tensor:
        """`[T][VOCAB]` of one document."""
        x = self.w["wte"][torch.tensor(tokens)]
        if self.s["position"] == "learned":
            x = x + self.w["wpe"][: len(tokens)]
        if self.s["position"] == "sinusoidal":
            x = x + self.s["amplitude"] * sines(len(tokens), self.s["n_embd"])
        x = self.norm(x, "norm_embd") if self.s["norm_embd"] else x
        for i in range(self.s["n_layer"]):
            x = self.layer(x, f"layer{i}.")
        x = self.norm(x, "norm_final") if self.s["norm_final"] else x
        logits = F.linear(x, self.w["wte" if self.s["head"] == "tied" else "lm_head"])
        if cap := self.s["cap"]:
            logits = cap * torch.tanh(logits / cap)
        return logits * self.s["logits"]

    def loss(self, documents: list[list[int]]) -> Tensor:
        """The mean over all tokens of what this case minimises."""
        logits = torch.cat([self.logits(document[:-1]) for document in documents])
        targets = torch.tensor([token for document in documents for token in document[1:]])
        loss = F.cross_entropy(logits, targets, label_smoothing=self.s.get("smoothing", 0.0))
        z = logits.logsumexp(-1).square().mean()
        return loss + self.s.get("z_weight", 0.0) * z


def rotated(x: Tensor) -> Tensor:
    """`[heads][T][size]`, its pairs (i, i + size / 2) multiplied as complex numbers by e^(i t f)."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half) / half)
    turns = torch.polar(torch.ones(x.shape[1], half), torch.arange(x.shape[1])[:, None] * rates)
    pairs = torch.complex(x[..., :half], x[..., half:]) * turns
    return torch.cat([pairs.real, pairs.imag], -1)


def sines(n: int, width: int) -> Tensor:
    """`[n][width]`: sines in the even columns, cosines in the odd ones."""
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
    angles = torch.arange(n)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).view(n, width)


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


def gpt(*, batches: int = 1, **changes: Any) -> Case:
    """Loss and gradients of all batches together; `changes` to DEFAULTS, and `smoothing`, `z_weight`."""
    settings = DEFAULTS | {"n_kv_head": changes.get("n_head", 2)} | changes
    rng = Random(7)
    wanted = shapes(settings).items()
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
