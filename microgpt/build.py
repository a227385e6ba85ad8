"""Builds objects from a configuration; an invalid value raises ConfigError that names the key."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from microgpt.complaints import config_line
from microgpt.core.check import BadValue, integer
from microgpt.core.data import Corpus, digest, make_corpus
from microgpt.core.sampling import Sampler
from microgpt.core.streams.base import Streams
from microgpt.core.trainer import Trainer
from microgpt.datasets.sources import Lines
from microgpt.parts import asked_of, check_arguments, made, parameters_of, refused
from microgpt.syntax import shown
from microgpt.terminal import ConfigError

T = TypeVar("T")
PARTS = ("data", "engine", "model", "optimizer", "schedule", "streams", "tracking")  # groups
SECTIONS = ("trainer", "sampling", "paths")  # keys of ours
KEYS = (
    "seed",
    "experiment",
    "description",
    "resume",
    "progress",
    "skip",
    "sweep",
    *SECTIONS,
    *PARTS,
)


@dataclass(frozen=True)
class Parts:
    """What a configuration builds."""

    config: dict[str, Any]  # resolved
    documents: list[str]
    data: dict[str, Any]  # facts about the documents
    trainer: Trainer


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, without Hydra's own part. Raises ConfigError."""
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: must be given ({error.full_key}=...)") from error
    except OmegaConfBaseException as error:
        raise ConfigError(config_line(error)) from error
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items() if key != "hydra"}
    _check_keys(plain)
    return plain


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
    objects = {
        "model": model,
        "engine": part(config, "engine"),
        "optimizer": part(config, "optimizer"),
        "schedule": part(config, "schedule"),
        "sampler": call("sampling", Sampler, **_taken("sampling", Sampler, config["sampling"])),
        "corpus": corpus,
        "streams": streams,
    }
    numbers = _taken("trainer", Trainer, config["trainer"], objects)
    trainer = call("trainer", Trainer, **objects, **numbers)
    facts = {"name": source.name, **data_facts(documents, corpus, model.block_size)}
    return Parts(config, documents, facts, trainer)


def part(config: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """The object that the group `key` describes, with the arguments `extra`. Raises ConfigError."""
    asked = asked_of(parameters_of(Trainer).get(key), config[key])
    return made(key, config[key], asked, extra)


def call(key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What `function` returns; a value that it refuses is named under `key`. Raises ConfigError."""
    check_arguments(key, parameters_of(function), kwargs, positional=len(args))
    try:
        return function(*args, **kwargs)
    except BadValue as error:
        raise refused(key, error) from error


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


def _check_keys(config: Mapping[str, Any]) -> None:
    """Raises ConfigError unless the keys at the top are exactly KEYS, and of the right kind."""
    for key in KEYS:
        if key not in config:
            raise ConfigError(
                f"{key}: must be there; microgpt train --help says what may stand in it"
            )
    for key, value in config.items():
        if key not in KEYS:
            raise ConfigError(f"{key}={shown(value)}: no such key; there are {', '.join(KEYS)}")
    for key in SECTIONS:
        if not isinstance(config[key], Mapping):
            raise ConfigError(f"{key}={shown(config[key])}: must hold keys, as {key}.KEY=VALUE")
    for key in ("progress", "skip"):
        if not isinstance(config[key], bool):
            raise ConfigError(f"{key}={shown(config[key])}: must be true or false")


def _taken(
    key: str, target: Any, value: Mapping[str, Any], extra: Collection[str] = ()
) -> Mapping[str, Any]:
    """`value`, which with `extra` holds the arguments of `target`. Raises ConfigError."""
    check_arguments(key, parameters_of(target), value, extra)
    return value
