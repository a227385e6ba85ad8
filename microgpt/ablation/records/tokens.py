"""The number of tokens that a run was trained on, a cost measure without clocks."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.build import part
from microgpt.core.assemble import make_corpus
from microgpt.core.check import BadValue
from microgpt.terminal import ConfigError
from microgpt.trust import OURS_ALONE, Trust, Untrusted, replayed


def tokens_trained(
    config: Mapping[str, Any], documents: Sequence[str] | None, trust: Trust = OURS_ALONE
) -> int | None:
    """The predicted tokens of all steps of a run.

    None if the store does not have the documents, or the configuration's classes no longer exist.
    Raises Untrusted.
    """
    try:
        replayed(config, trust)
        if documents is None:
            return None
        streams = part(config, "streams", seed=config["seed"])
        corpus = make_corpus(part(config, "data"), documents, streams)
    except Untrusted:
        raise
    except (ConfigError, BadValue):
        return None
    trainer = config["trainer"]
    length = int(trainer.get("train_length") or config["model"]["block_size"])
    batch_size = trainer["batch_size"] * trainer.get("accumulate", 1)
    return corpus.tokens(trainer["num_steps"], batch_size, length)
