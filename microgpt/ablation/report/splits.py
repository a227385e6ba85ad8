"""The documents of a sweep, split as its runs were configured, and the tokens by which a run is judged."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.build import part
from microgpt.core.assemble import make_corpus
from microgpt.core.check import BadValue
from microgpt.core.data import Corpus, Documents
from microgpt.run.held_out import targets_sha256
from microgpt.run.source import Finder
from microgpt.terminal import ConfigError
from microgpt.trust import Trust, Untrusted, replayed


class Splits:
    """Split documents, each kind of split made once; `documents` are None if the store lacks them."""

    def __init__(self, documents: Sequence[str] | None, trust: Trust) -> None:
        self._documents, self._trust, self._finder = documents, trust, Finder()
        self._corpora: dict[str, Corpus | None] = {}
        self._sets: dict[str, tuple[set[str], set[str]] | None] = {}
        self._judged: dict[str, str] = {}
        self._tokens: dict[str, int | None] = {}

    def of(self, config: Mapping[str, Any]) -> Corpus | None:
        """The corpus of a run's configuration; the order of its training part may be another run's.

        None without documents, or if the configuration's classes no longer exist. Raises Untrusted.
        """
        if not self._trusts(config):
            return None
        key = _canonical(config["data"])
        if key not in self._corpora:
            self._corpora[key] = self._made(config)
        return self._corpora[key]

    def tokens_trained(self, config: Mapping[str, Any]) -> int | None:
        """The predicted tokens of all steps of a run, a cost measure without clocks.

        None without documents, or if the configuration's classes no longer exist. Raises Untrusted.
        """
        if not self._trusts(config):
            return None
        trainer = config["trainer"]
        length = int(trainer.get("train_length") or config["model"]["block_size"])
        batch_size = trainer["batch_size"] * trainer.get("accumulate", 1)
        sizes = trainer["num_steps"], batch_size, length
        key = _canonical([config["data"], config["streams"], config["seed"], sizes])
        if key not in self._tokens:
            corpus = self._made(config)
            self._tokens[key] = corpus.tokens(*sizes) if corpus else None
        return self._tokens[key]

    def _made(self, config: Mapping[str, Any]) -> Corpus | None:
        if self._documents is None:
            return None
        try:
            streams = part(config, "streams", seed=config["seed"])
            return make_corpus(part(config, "data"), self._documents, streams)
        except (ConfigError, BadValue):
            return None

    def _trusts(self, config: Mapping[str, Any]) -> bool:
        """Whether its classes exist. Raises Untrusted."""
        try:
            replayed(config, self._trust, self._finder)
        except Untrusted:
            raise
        except ConfigError:
            return False
        return True

    def sets(self, config: Mapping[str, Any]) -> tuple[set[str], set[str]] | None:
        """The documents of the training part, and those of the others; None for running text too."""
        key = _canonical(config["data"])
        if key not in self._sets:
            corpus = self.of(config)
            if isinstance(corpus, Documents):
                train, validation, test = corpus.split
                self._sets[key] = set(train), {*validation, *test}
            else:
                self._sets[key] = None
        return self._sets[key]

    def judged_by(self, config: Mapping[str, Any], figure: str) -> str:
        """Equal for two runs exactly if they predict the same tokens for `figure`.

        Without documents: if they are configured alike.
        """
        count, block_size = config["trainer"]["eval_documents"], config["model"]["block_size"]
        key = _canonical([config["data"], count, block_size, figure])
        if key not in self._judged:
            self._judged[key] = self._targets(config, figure, count, block_size) or key
        return self._judged[key]

    def _targets(
        self, config: Mapping[str, Any], figure: str, count: int, block_size: int
    ) -> str | None:
        corpus = self.of(config)
        if corpus is None:
            return None
        texts, most = corpus.split.validation, count
        if figure.startswith("test/"):
            texts, most = corpus.split.test, sys.maxsize
        return targets_sha256(corpus.held_out(texts, most, 1, block_size))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
