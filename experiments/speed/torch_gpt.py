"""The rival: the same GPT in PyTorch, as one would write it there, eager and with fused Adam.

It has the model of `microgpt.core` at its defaults (RMSNorm without a gain after the embeddings and
before each block, learned positions, no biases, ReLU, a head of its own), the same initial
distribution and the same update. What PyTorch offers for speed in eager mode is used: one product
for queries, keys and values, `scaled_dot_product_attention`, `rms_norm`, fused Adam, documents that
are encoded once. A batch is padded to its longest document, the padding ignored in the loss.

It needs PyTorch and the standard library alone. `python torch_gpt.py names.txt` trains it.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORED = -1  # the target of a padded place
EPS = 1e-5


def norm(x: Tensor) -> Tensor:
    """RMSNorm without a gain, over the last axis."""
    return F.rms_norm(x, (x.size(-1),), eps=EPS)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.qkv = nn.Linear(n_embd, 3 * n_embd, bias=False)
        self.out = nn.Linear(n_embd, n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, n_embd] -> [B, T, n_embd]`."""
        b, t, n = x.shape
        heads = self.qkv(x).view(b, t, 3, self.n_head, n // self.n_head)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # [B, n_head, T, head_dim] each
        # A document is padded behind its end, where causal attention never looks: no mask is needed.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(b, t, n))


class Block(nn.Module):
    """Attention and MLP, each on normed rows and added to them."""

    def __init__(self, n_embd: int, n_head: int) -> None:
        super().__init__()
        self.attention = Attention(n_embd, n_head)
        self.fc1 = nn.Linear(n_embd, 4 * n_embd, bias=False)
        self.fc2 = nn.Linear(4 * n_embd, n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, T, n_embd] -> [B, T, n_embd]`."""
        x = x + self.attention(norm(x))
        return x + self.fc2(F.relu(self.fc1(norm(x))))


class TorchGPT(nn.Module):
    """The model; every weight starts from N(0, std^2)."""

    def __init__(
        self,
        *,
        vocab_size: int,
        block_size: int,
        n_layer: int,
        n_head: int,
        n_embd: int,
        std: float,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab_size, n_embd)
        self.wpe = nn.Embedding(block_size, n_embd)
        self.blocks = nn.ModuleList([Block(n_embd, n_head) for _ in range(n_layer)])
        self.lm_head = nn.Linear(n_embd, vocab_size, bias=False)
        for weight in self.parameters():
            nn.init.normal_(weight, std=std)
        self.register_buffer("positions", torch.arange(block_size), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token: `[B, T] -> [B, T, vocab_size]`."""
        x = norm(self.wte(tokens) + self.wpe(self.positions[: tokens.size(1)]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(x)

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over the targets that are not IGNORED: `[B, T], [B, T] -> []`."""
        logits = self(tokens)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def named_weights(self) -> dict[str, Tensor]:
        """The weights, or views of them, under the names that `microgpt.core` gives them."""
        weights = {"wte": self.wte.weight, "wpe": self.wpe.weight, "lm_head": self.lm_head.weight}
        for i, block in enumerate(self.blocks):
            names = [f"layer{i}.attn_w{which}" for which in "qkv"]
            weights |= zip(names, block.attention.qkv.weight.chunk(3))
            weights[f"layer{i}.attn_wo"] = block.attention.out.weight
            weights[f"layer{i}.mlp_fc1"] = block.fc1.weight
            weights[f"layer{i}.mlp_fc2"] = block.fc2.weight
        return weights

    def named_gradients(self) -> dict[str, Tensor]:
        """The gradients, under the same names."""
        gradients = {"wte": self.wte.weight.grad, "wpe": self.wpe.weight.grad}
        gradients["lm_head"] = self.lm_head.weight.grad
        for i, block in enumerate(self.blocks):
            names = [f"layer{i}.attn_w{which}" for which in "qkv"]
            gradients |= zip(names, block.attention.qkv.weight.grad.chunk(3))
            gradients[f"layer{i}.attn_wo"] = block.attention.out.weight.grad
            gradients[f"layer{i}.mlp_fc1"] = block.fc1.weight.grad
            gradients[f"layer{i}.mlp_fc2"] = block.fc2.weight.grad
        return gradients

    @torch.no_grad()
    def load(self, flat: Mapping[str, Sequence[float]]) -> None:
        """Take over weights as `Engine.flat` gives them."""
        for name, weight in self.named_weights().items():
            numbers = torch.tensor(flat[name], dtype=weight.dtype)
            weight.copy_(numbers.view_as(weight))


class Documents:
    """Documents, encoded once, in batches that are padded to the longest of each."""

    def __init__(self, documents: Sequence[str], block_size: int) -> None:
        characters = sorted(set("".join(documents)))
        ids = {character: i for i, character in enumerate(characters)}
        bos = len(characters)
        self.vocab_size = bos + 1
        self.ids = [
            [bos, *(ids[character] for character in document), bos][: block_size + 1]
            for document in documents
        ]

    def batch(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets `[B, T]` of step `step`, counted from 0."""
        n = len(self.ids)
        rows = [self.ids[i % n] for i in range(step * batch_size, (step + 1) * batch_size)]
        length = max([len(row) for row in rows])
        # One tensor from padded lists: `pad_sequence` over a tensor a document takes longer.
        padded = torch.tensor([row + [IGNORED] * (length - len(row)) for row in rows])
        return padded[:, :-1].clamp(min=0), padded[:, 1:]


class TorchTrainer:
    """The training loop's one step: a batch, the loss, its gradients, fused Adam at a linear rate."""

    def __init__(
        self,
        model: TorchGPT,
        documents: Documents,
        *,
        batch_size: int,
        num_steps: int,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
    ) -> None:
        self.model, self.documents = model, documents
        self.batch_size, self.num_steps, self.lr = batch_size, num_steps, lr
        self.done = 0
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=lr, betas=(beta1, beta2), eps=eps, fused=True
        )

    def step(self) -> float:
        """One update; returns the loss before it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * (1 - self.done / self.num_steps)
        tokens, targets = self.documents.batch(self.done, self.batch_size)
        loss = self.model.loss(tokens, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.done += 1
        return loss.item()


def main(path: str) -> None:
    """Train the default model on the lines of a file."""
    torch.set_num_threads(1)
    torch.manual_seed(42)
    lines = [line for line in Path(path).read_text().split("\n") if line]
    Random(42).shuffle(lines)
    documents = Documents(lines, block_size=16)
    model = TorchGPT(
        vocab_size=documents.vocab_size, block_size=16, n_layer=1, n_head=4, n_embd=16, std=0.08
    )
    trainer = TorchTrainer(
        model, documents, batch_size=1, num_steps=1000, lr=0.01, beta1=0.85, beta2=0.99, eps=1e-8
    )
    for step in range(1, 1001):
        loss = trainer.step()
        if step % 100 == 0:
            print(f"step {step:4d}  loss {loss:.4f}")


if __name__ == "__main__":
    main(sys.argv[1])
