"""gpt-dev.ipynb in PyTorch, and what of it is changed, to find out why our figure differs.

    python experiments/outside/notebook.py TEXT [--seed 1337] [--zero-biases] [--float64] [--steps 4999]

The modules are made, and random numbers drawn, in the notebook's order, so that its seed gives its initial
weights and its batches. Its evaluations on the way are left out; what they draw is drawn. The loss is that
of all windows of the validation part side by side, as in check.py, and of 3,200 at random, as there.
It needs PyTorch, which the `bench` extra installs.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, LAYERS, BLOCK, BATCH = 64, 4, 4, 32, 16
EVERY, DRAWS = 100, 200  # updates between evaluations, batches of each


class Head(nn.Module):
    """One head of causal attention; its scores are scaled by the width of the embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (
            nn.Linear(WIDTH, WIDTH // HEADS, bias=False) for _ in range(3)
        )
        self.register_buffer("past", torch.tril(torch.ones(BLOCK, BLOCK)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, WIDTH] -> [B, T, WIDTH // HEADS]`."""
        scores = self.query(x) @ self.key(x).transpose(-2, -1) * WIDTH**-0.5
        scores = scores.masked_fill(self.past[: x.size(1), : x.size(1)] == 0, float("-inf"))
        return F.softmax(scores, dim=-1) @ self.value(x)


class Heads(nn.Module):
    """All heads side by side, and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList([Head() for _ in range(HEADS)])
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, WIDTH] -> [B, T, WIDTH]`."""
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class Layer(nn.Module):
    """Attention and MLP, each on normed rows and added to them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Heads()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, WIDTH] -> [B, T, WIDTH]`."""
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class Model(nn.Module):
    """The whole of it."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, WIDTH), nn.Embedding(BLOCK, WIDTH)
        self.layers = nn.Sequential(*[Layer() for _ in range(LAYERS)])
        self.norm, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocab_size)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy: `[B, T], [B, T] -> []`."""
        x = self.wte(tokens) + self.wpe.weight[: tokens.size(1)]
        logits = self.lm_head(self.norm(self.layers(x)))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def starts(part: Tensor) -> Tensor:
    """Where the windows of a batch begin."""
    return torch.randint(len(part) - BLOCK, (BATCH,))


def windows(part: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and targets `[B, BLOCK]`."""
    rows = torch.stack([part[i : i + BLOCK + 1] for i in places.tolist()])
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def at_random(model: Model, train: Tensor, validation: Tensor) -> float:
    """The notebook's estimate, which first draws from the training part."""
    for _ in range(DRAWS):
        starts(train)
    losses = [model.loss(*windows(validation, starts(validation))).item() for _ in range(DRAWS)]
    return sum(losses) / DRAWS


@torch.no_grad()
def side_by_side(model: Model, part: Tensor) -> float:
    """The loss of all windows that do not overlap, the last of them shorter."""
    total = 0.0
    whole = (len(part) - 1) // BLOCK * BLOCK
    for first in range(0, whole, 256 * BLOCK):
        places = torch.arange(first, min(first + 256 * BLOCK, whole), BLOCK)
        tokens, targets = windows(part, places)
        total += model.loss(tokens, targets).item() * tokens.numel()
    if len(part) - 1 > whole:
        rest = part[whole:]
        total += model.loss(rest[None, :-1], rest[None, 1:]).item() * (len(rest) - 1)
    return total / (len(part) - 1)


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("text", type=Path)
    asked.add_argument("--seed", type=int, default=1337)
    asked.add_argument("--steps", type=int, default=4999)
    asked.add_argument("--zero-biases", action="store_true")
    asked.add_argument("--float64", action="store_true")
    words = asked.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(words.seed)
    text = words.text.read_text(encoding="utf-8")
    ids = {character: i for i, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[character] for character in text])
    train, validation = tokens.split([int(0.9 * len(tokens)), len(tokens) - int(0.9 * len(tokens))])
    model = Model(len(ids))
    if words.zero_biases:
        for module in model.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
    model = model.double() if words.float64 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(words.steps):
        if step % EVERY == 0:
            if step and step % 1000 == 0:
                print(f"{step}: side by side {side_by_side(model, validation):.4f}", flush=True)
            for part in (train, validation):
                for _ in range(DRAWS):
                    starts(part)
        loss = model.loss(*windows(train, starts(train)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    found = side_by_side(model, validation)
    print(f"{words.steps}: side by side {found:.4f}", end="")
    print(f", at random {at_random(model, train, validation):.4f}")


if __name__ == "__main__":
    main()
