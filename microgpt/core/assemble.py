"""Assembles a run from its parts, and assigns the random streams.

The stream `data` shuffles the documents, `init/<name>` draws each weight, `sampling` draws the samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

from microgpt.core.check import BadValue, under
from microgpt.core.data import Corpus
from microgpt.core.models.base import MAX_PARAMETERS, Model
from microgpt.core.source import Source
from microgpt.core.streams.base import Streams
from microgpt.core.tokenizer import CharTokenizer
from microgpt.core.trainer import Trainer


def assemble(
    *,
    source: Source,
    documents: Sequence[str],
    streams: Streams,
    model: Callable[[int], Model],
    **parts: Any,
) -> Trainer:
    """Builds the Trainer of `model(vocab_size)` on `documents`; `parts` are its other arguments.

    Raises BadValue with the key of the configuration.
    """
    with under("data"):
        corpus = make_corpus(source, documents, streams)
    built = model(corpus.tokenizer.vocab_size)
    check_size(built)
    parts["optimizer"].check(built)
    with under("trainer"):
        return Trainer(model=built, corpus=corpus, streams=streams, **parts)


def make_corpus(source: Source, documents: Sequence[str], streams: Streams) -> Corpus:
    """Splits the documents and orders the training part. Raises BadValue if it has no tokens."""
    split = source.split(documents)
    if not split.train:
        raise _leaves_nothing(source, "it leaves no document to train on")
    corpus = source.corpus(split, CharTokenizer("".join(documents)), streams("data"))
    corpus.nats = source.nats
    if not corpus.tokens(1, 1, 1):
        raise _leaves_nothing(source, "it leaves no two characters to train on")
    return corpus


def _leaves_nothing(source: Source, allowed: str) -> BadValue:
    """The error for the larger of the two fractions."""
    fractions = {"val_fraction": source.val_fraction, "test_fraction": source.test_fraction}
    key = max(fractions, key=lambda name: fractions[name])
    return BadValue(key, fractions[key], allowed)


def check_size(model: Model) -> None:
    """Raises BadValue if the model has more than MAX_PARAMETERS, before any is drawn."""
    shapes, dims = model.shapes(), model.dims
    n_params = sum(weight.size for weight in shapes.values())
    if n_params <= MAX_PARAMETERS:
        return
    name, largest = max(shapes.items(), key=lambda pair: pair[1].size)
    allowed = (
        f"must have at most {MAX_PARAMETERS:,} parameters, but has {n_params:,}; "
        f"the largest weight is {name}, {largest.n_out} x {largest.n_in}"
    )
    if largest.n_out == dims.block_size > dims.n_embd:
        raise BadValue("model.block_size", dims.block_size, f"the model {allowed}")
    raise BadValue("model", type(model).__name__, allowed)
