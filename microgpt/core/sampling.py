"""Sampling from a model, one token at a time, with a KV cache."""

from collections.abc import Iterator
from random import Random

from microgpt.core.check import BadValue, integer, number, zero_or_from
from microgpt.core.data import Corpus
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.models.base import Model


class Sampler:
    """Draws documents from softmax(logits / temperature), restricted by top-k and top-p.

    temperature 0 takes the most likely token. `top_k` keeps the k most likely tokens, 0 all. `top_p`
    then keeps the smallest set of most likely tokens whose probabilities sum to `top_p`, 1 all
    (nucleus sampling, Holtzman et al. 2019, arXiv 1904.09751).
    """

    def __init__(self, *, num_samples: int, temperature: float, top_k: int, top_p: float) -> None:
        self.num_samples = integer("num_samples", num_samples, 0)
        # With a lower temperature the logits may overflow, in float32 first.
        self.temperature = zero_or_from("temperature", temperature, 1e-9)
        self.top_k = integer("top_k", top_k, 0)
        self.top_p = number("top_p", top_p, "> 0 and <= 1", lambda v: 0 < v <= 1)

    def samples(
        self, model: Model, ops: Engine, w: Weights, corpus: Corpus, rng: Random, prompt: str = ""
    ) -> Iterator[str]:
        """`num_samples` documents that begin with `prompt`. Raises UnknownCharacter, BadValue."""
        block_size, tokenizer = model.dims.block_size, corpus.tokenizer
        if len(prompt) >= block_size:
            raise BadValue("prompt", prompt, f"must be shorter than block_size={block_size}")
        weights = {name: ops.detached(matrix) for name, matrix in w.items()}
        for _ in range(self.num_samples):
            ids, caches = [corpus.begin, *tokenizer.encode(prompt)], model.caches()
            for t in range(block_size):
                logits = model(ops, weights, ids[t : t + 1], [(0, t + 1)], caches)
                if t + 1 == len(ids):  # the prompt has been read
                    ids.append(self._choose(ops, logits, rng))
                if ids[t + 1] == tokenizer.bos:
                    break
            yield tokenizer.decode([i for i in ids[1:] if i != tokenizer.bos])

    def _choose(self, ops: Engine, logits: Matrix, rng: Random) -> int:
        """The next id from one row of logits."""
        if self.temperature == 0:
            row = ops.values(logits)[0]
            return row.index(max(row))
        weights = ops.values(ops.softmax(logits * self.temperature**-1))[0]
        ids, mass, cut = range(len(weights)), 0.0, self.top_k or self.top_p < 1
        for rank, i in enumerate(sorted(ids, key=weights.__getitem__, reverse=True) if cut else ()):
            # tokens outside top-k and top-p have weight 0
            if rank >= (self.top_k or len(ids)) or (self.top_p < 1 and mass >= self.top_p):
                weights[i] = 0.0
            mass += weights[i]
        return rng.choices(ids, weights)[0]
