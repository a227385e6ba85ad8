"""How many tokens a run was trained on: a cost that no clock has a part in."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.build import part
from microgpt.core.check import BadValue
from microgpt.core.data import make_corpus
from microgpt.terminal import ConfigError


def tokens_trained(config: Mapping[str, Any], documents: Sequence[str] | None) -> int | None:
    """Predicted tokens of all steps of a run, counted in the order that it saw the documents.

    None where the documents are not in the store, or the configuration's classes are gone.
    """
    if documents is None:
        return None
    trainer, block_size = config["trainer"], int(config["model"]["block_size"])
    try:
        rng = part(config, "streams", seed=config["seed"])("data")
        split = {key: config["data"][key] for key in ("val_fraction", "split_seed")}
        train = make_corpus(documents, **split, rng=rng).train
    except (ConfigError, BadValue):
        return None
    n = int(trainer["num_steps"] * trainer["batch_size"])
    lengths = [min(len(document) + 1, block_size) for document in train]
    whole, rest = divmod(n, len(lengths))
    return whole * sum(lengths) + sum(lengths[:rest])
