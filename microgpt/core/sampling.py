"""Text from a model, one token at a time, over the cache of keys and values."""

from collections.abc import Iterator
from random import Random

from microgpt.core.check import BadValue, integer, nonnegative, number
from microgpt.core.engine.base import Engine
from microgpt.core.layers.base import Weights
from microgpt.core.model import GPT
from microgpt.core.tokenizer import CharTokenizer


class Sampler:
    """Draws documents from softmax(logits / temperature), cut by top-k and top-p.

    temperature 0 takes the likeliest token. `top_k` keeps that many of the likeliest tokens, 0 all of
    them; `top_p` then keeps the fewest likeliest tokens whose probabilities reach it, 1 all of them
    (nucleus sampling, Holtzman et al. 2019, arXiv 1904.09751).
    """

    def __init__(self, *, num_samples: int, temperature: float, top_k: int, top_p: float) -> None:
        self.num_samples = integer("num_samples", num_samples, 0)
        self.temperature = nonnegative("temperature", temperature)
        self.top_k = integer("top_k", top_k, 0)
        self.top_p = number("top_p", top_p, "> 0 and <= 1", lambda v: 0 < v <= 1)

    def samples(
        self,
        model: GPT,
        ops: Engine,
        w: Weights,
        tokenizer: CharTokenizer,
        rng: Random,
        prompt: str = "",
    ) -> Iterator[str]:
        """`num_samples` documents that begin with `prompt`. Raises UnknownCharacter, BadValue."""
        if len(prompt) >= model.dims.block_size:
            raise BadValue(
                "prompt", prompt, f"must be shorter than block_size={model.dims.block_size}"
            )
        start = [tokenizer.bos, *tokenizer.encode(prompt)]
        weights = ops.frozen(w)
        for _ in range(self.num_samples):
            yield tokenizer.decode(self._document(model, ops, weights, start, rng))

    def _document(
        self, model: GPT, ops: Engine, w: Weights, start: list[int], rng: Random
    ) -> list[int]:
        """Ids without BOS, at most block_size of them; the first token of `start` is BOS."""
        ids, caches = list(start), model.caches()
        for t in range(model.dims.block_size):
            logits = model(ops, w, ids[t : t + 1], [(0, t + 1)], caches)
            if t + 1 < len(ids):
                continue  # within the prompt
            token = self._choose(ops, logits, rng)
            if token == start[0]:
                break
            ids.append(token)
        return ids[1:]

    def _choose(self, ops: Engine, logits: object, rng: Random) -> int:
        """The next id from one row of logits."""
        if self.temperature == 0:
            row = ops.values(logits)[0]
            return row.index(max(row))
        weights = ops.values(ops.softmax(ops.mul(logits, self.temperature**-1)))[0]
        return rng.choices(range(len(weights)), self._cut(weights))[0]

    def _cut(self, weights: list[float]) -> list[float]:
        """Weights with 0 for the ids that top-k and top-p leave out."""
        ranked = sorted(range(len(weights)), key=weights.__getitem__, reverse=True)
        kept, mass = set[int](), 0.0
        for i in ranked[: self.top_k or None]:
            kept.add(i)
            mass += weights[i]
            if self.top_p < 1 and mass >= self.top_p:
                break
        return [weight if i in kept else 0.0 for i, weight in enumerate(weights)]
