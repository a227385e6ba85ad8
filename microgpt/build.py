"""Configuration to objects. What does not fit is a ConfigError, with the full name of the key."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microgpt.core.check import BadValue, integer
from microgpt.core.data import Corpus, digest, make_corpus
from microgpt.core.sampling import Sampler
from microgpt.core.streams.base import Streams
from microgpt.core.trainer import Trainer
from microgpt.datasets.sources import Lines

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be built: one line for the user."""


@dataclass(frozen=True)
class Parts:
    """What a configuration builds."""

    config: dict[str, Any]  # resolved
    documents: list[str]
    data: dict[str, Any]  # facts about the documents
    trainer: Trainer


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own part."""
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0].lower()}") from error
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items() if key != "hydra"}


def build(cfg: DictConfig) -> Parts:
    """Everything for one run. Raises ConfigError, before anything is written."""
    config = resolve(cfg)
    seed = call("", integer, "seed", config["seed"], 0)
    streams: Streams = part(config, "streams", seed=seed)
    source: Lines = part(config, "data")
    documents = call("data", source.documents)
    corpus = call(
        "data",
        make_corpus,
        documents,
        val_fraction=source.val_fraction,
        split_seed=source.split_seed,
        rng=streams("data"),
    )
    model = part(config, "model", vocab_size=corpus.tokenizer.vocab_size)
    trainer = call(
        "trainer",
        Trainer,
        model=model,
        engine=part(config, "engine"),
        optimizer=part(config, "optimizer"),
        schedule=part(config, "schedule"),
        sampler=call("sampling", Sampler, **config["sampling"]),
        corpus=corpus,
        streams=streams,
        **config["trainer"],
    )
    facts = {"name": source.name, **data_facts(documents, corpus, model.block_size)}
    return Parts(config, documents, facts, trainer)


def part(config: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """The object that the group `key` describes. Raises ConfigError."""
    try:
        return instantiate(OmegaConf.create({key: config[key]})[key], **extra)
    except InstantiationException as error:
        found = re.search(r"full_key: (\S+)", str(error))
        raise ConfigError(_line(found[1] if found else key, error.__cause__ or error)) from error


def call(key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What `function` returns; what it refuses is told under `key`. Raises ConfigError."""
    try:
        return function(*args, **kwargs)
    except (BadValue, TypeError) as error:
        raise ConfigError(_line(key, error)) from error


def data_facts(documents: list[str], corpus: Corpus, block_size: int) -> dict[str, Any]:
    """What is worth knowing of the data: sizes in documents and characters, vocabulary, identity."""
    return {
        "documents": len(documents),
        "train_documents": len(corpus.train),
        "val_documents": len(corpus.validation),
        "characters": sum(map(len, documents)),
        "vocabulary": "".join(corpus.tokenizer.characters),
        "cut_by_block_size": sum(len(document) + 1 > block_size for document in documents),
        "digest": digest(documents),
    }


def _line(key: str, error: BaseException) -> str:
    """One line of complaint, with the full name of the key where the error names one."""
    text = str(error)
    if isinstance(error, BadValue):
        return f"{key}.{text}" if key else text
    if found := re.search(r"unexpected keyword argument '(\w+)'", text):
        return f"{key}.{found[1]}: no such key"
    if found := re.search(r"missing \d+ required keyword-only arguments?: '(\w+)'", text):
        return f"{key}.{found[1]}: is missing"
    return f"{key}: {text.splitlines()[0]}"
