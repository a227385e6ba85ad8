"""Assembles a run from its parts, and assigns the random streams.

The stream `data` shuffles the documents, `init/<name>` draws each weight, `sampling` draws the samples.
"""

from collections.abc import Callable, Sequence
from typing import Any

from microgpt.core.check import BadValue, under
from microgpt.core.data import Corpus
from microgpt.core.models.base import Model
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
    with under("trainer"):
        return Trainer(model=built, corpus=corpus, streams=streams, **parts)


def make_corpus(source: Source, documents: Sequence[str], streams: Streams) -> Corpus:
    """Splits the documents and orders the training part. Raises BadValue if it has no tokens."""
    split = source.split(documents)
    if not split.train:
        allowed = "it leaves no document to train on"
        raise BadValue("val_fraction", source.val_fraction, allowed)
    corpus = source.corpus(split, CharTokenizer("".join(documents)), streams("data"))
    if not corpus.tokens(1, 1, 1):
        allowed = "it leaves no two characters to train on"
        raise BadValue("val_fraction", source.val_fraction, allowed)
    return corpus
