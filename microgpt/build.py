"""Builds objects from a configuration; an invalid value raises ConfigError that names the key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from microgpt.complaints import config_line
from microgpt.core.assemble import assemble
from microgpt.core.check import BadValue, integer
from microgpt.core.data import Corpus, digest
from microgpt.core.sampling import Sampler
from microgpt.core.source import Source
from microgpt.core.trainer import Trainer
from microgpt.datasets.checks import check_file
from microgpt.datasets.sources import Lines, Text
from microgpt.hints import meant
from microgpt.parts import asked_of, check_arguments, made, parameters_of, refused
from microgpt.syntax import shown
from microgpt.terminal import ConfigError
from microgpt.tracking import Tracking

T = TypeVar("T")
PARTS = (
    "data",
    "engine",
    "loss",
    "model",
    "optimizer",
    "schedule",
    "streams",
    "tracking",
)  # groups of the configuration
SECTIONS = ("trainer", "sampling", "paths")  # sections that are not groups
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
# The last facts about data, in this process: digest, block size, configuration -> facts.
counted: dict[tuple[str, int, str], dict[str, Any]] = {}


@dataclass(frozen=True)
class Parts:
    """The objects of one run."""

    config: dict[str, Any]  # resolved
    documents: list[str] = field(repr=False)  # perhaps many
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
    own = {str(key): value for key, value in config.items() if key != "hydra"}
    check_keys(own)
    return own


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values, also where one is still to be given."""
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return dict(values)


def build(cfg: DictConfig, documents: Sequence[str] | None = None) -> Parts:
    """Builds the objects of one run from a composed configuration. Raises ConfigError."""
    return built(resolve(cfg), documents)


def built(config: dict[str, Any], documents: Sequence[str] | None = None) -> Parts:
    """Builds the objects of one run, on `documents` if given, else on those of its source.

    Writes nothing. Raises ConfigError.
    """
    seed = call("", integer, "seed", config["seed"], 0)
    source: Source = part(config, "data")
    known = documents_of(config, source) if documents is None else list(documents)
    objects = {
        "streams": part(config, "streams", seed=seed),
        **{name: part(config, name) for name in ("engine", "loss", "optimizer", "schedule")},
        "sampler": call("sampling", Sampler, **config["sampling"]),
    }
    numbers = config["trainer"]
    check_arguments("trainer", parameters_of(Trainer), numbers, {*objects, "model", "corpus"})
    trainer = call(
        "",
        assemble,
        source=source,
        documents=known,
        model=lambda vocab_size: part(config, "model", vocab_size=vocab_size),
        **objects,
        **numbers,
    )
    return Parts(config, known, data_facts(source, known, trainer, config["data"]), trainer)


def documents_of(config: Mapping[str, Any], source: Source) -> list[str]:
    """The documents of the source that `data` describes. Raises ConfigError."""
    if isinstance(source, Lines | Text) and source.path:
        call("data", check_file, path=source.path)
    found: Any = call("data", source.documents)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        target = shown(config["data"]["_target_"])
        raise ConfigError(f"data._target_={target}: documents() must return a list of str")
    return found


def part(config: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """Instantiates the group `key`, with additional arguments `extra`. Raises ConfigError."""
    return made(key, config[key], asked_for(key, config[key]), extra)


def asked_for(key: str, value: Any) -> type | None:
    """The class that an option of the group `key` must make."""
    if key == "tracking":
        return Tracking
    parameters = {**parameters_of(Trainer), "data": parameters_of(assemble)["source"]}
    return asked_of(parameters.get(key), value)


def call(key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Calls `function`; raises ConfigError, with keys under `key`, for missing or invalid arguments."""
    check_arguments(key, parameters_of(function), kwargs, positional=len(args))
    try:
        return function(*args, **kwargs)
    except BadValue as error:
        raise refused(key, error) from error


def data_facts(
    source: Source, documents: Sequence[str], trainer: Trainer, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Facts about the data: numbers of documents and characters, vocabulary, digest.

    They are counted once for the runs of a process that have the same data by the same `config`.
    """
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
    name = digest(documents, corpus.batching)
    key = name, block_size, str(config)
    if key not in counted:
        counted.clear()
        counted[key] = _counted(source, documents, corpus, block_size)
    return {**counted[key], "digest": name, **source.facts()}


def _counted(
    source: Source, documents: Sequence[str], corpus: Corpus, block_size: int
) -> dict[str, Any]:
    return {
        "name": source.name,
        "documents": len(documents),
        "train_documents": len(corpus.split.train),
        "val_documents": len(corpus.split.validation),
        "test_documents": len(corpus.split.test),
        "characters": sum(map(len, documents)),
        "vocabulary": "".join(corpus.tokenizer.characters),
        "batching": corpus.batching,
        "cut_by_block_size": corpus.cut(block_size),
    }


def check_keys(config: Mapping[str, Any]) -> None:
    """Raises ConfigError unless the top-level keys are exactly KEYS, with values of the right type."""
    for key in KEYS:
        if key not in config:
            raise ConfigError(f"{key}: is missing; see microgpt train --help")
    for key, value in config.items():
        if key not in KEYS:
            advice = meant(key, {"": KEYS, **dict.fromkeys(KEYS)}, ())
            raise ConfigError(f"{key}={shown(value)}: no such key; {advice}")
    for key in SECTIONS:
        if not isinstance(config[key], Mapping):
            raise ConfigError(f"{key}={shown(config[key])}: must hold keys, as {key}.KEY=VALUE")
    for key in ("progress", "skip"):
        if not isinstance(config[key], bool):
            raise ConfigError(f"{key}={shown(config[key])}: must be true or false")
