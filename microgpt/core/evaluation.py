"""Evaluation of weights on held-out documents."""

import sys
from dataclasses import dataclass

from microgpt.core.data import Corpus
from microgpt.core.engine.base import Engine, Weights
from microgpt.core.events import Metrics
from microgpt.core.models.base import Model

LN2 = 0.6931471805599453


@dataclass
class Score:
    """Sums over the targets of a part of the documents."""

    nats: float = 0.0
    tokens: int = 0
    characters: int = 0  # targets other than the end token
    optimum: float | None = None  # nats of the process that made the documents

    def metrics(self, name: str) -> Metrics:
        """Under names such as `val/loss`; none without targets.

        loss    nats per predicted token
        bpc     bits per character: total nats over ALL targets, end tokens included, / (ln 2 * characters)
        excess  loss above the least possible one in expectation, that of the process on these documents
        """
        if not self.tokens:
            return {}
        found = {
            f"{name}loss": self.nats / self.tokens,
            f"{name}bpc": self.nats / (LN2 * max(1, self.characters)),
        }
        if self.optimum is not None:
            found[f"{name}excess"] = (self.nats - self.optimum) / self.tokens
        return found


def evaluate(
    ops: Engine,
    model: Model,
    weights: Weights,
    corpus: Corpus,
    part: str,
    *,
    eval_documents: int,
    batch_size: int,
) -> Score:
    """The score on the part `val`, its first `eval_documents` sequences, or on all of `test`."""
    split, bos, block_size = corpus.split, corpus.tokenizer.bos, model.dims.block_size
    whole = part == "test"
    texts, count = (split.test, sys.maxsize) if whole else (split.validation, eval_documents)
    score = Score(optimum=corpus.optimum(texts, count, block_size))
    constants = {name: ops.detached(w) for name, w in weights.items()}
    for batch in corpus.held_out(texts, count, batch_size, block_size):
        logits = model(ops, constants, batch.tokens, batch.spans)
        for (loss,) in ops.values(ops.cross_entropy(logits, batch.targets)):
            score.nats += loss
        score.tokens += len(batch.targets)
        score.characters += len(batch.targets) - batch.targets.count(bos)
    return score
