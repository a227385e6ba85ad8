"""Configuration to objects. What does not fit is a ConfigError, with the full name of the key."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, isclass, signature
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from microgpt.core.assemble import assemble
from microgpt.core.check import BadValue, integer
from microgpt.core.data import digest
from microgpt.core.sampling import Sampler
from microgpt.core.source import Source
from microgpt.core.trainer import Trainer

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
)  # groups
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
    """The configuration as plain values, without Hydra's own part. Raises ConfigError."""
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        text = str(error).splitlines()[0].lower()
        if text.startswith("missing mandatory value"):
            text = f"must be given ({error.full_key}=...)"
        raise ConfigError(f"{error.full_key}: {text}") from error
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items() if key != "hydra"}
    _check_keys(plain)
    return plain


def build(cfg: DictConfig, documents: Sequence[str] | None = None) -> Parts:
    """Everything for one run; on `documents` where they are known, else on those of its source.

    Raises ConfigError, before anything is written.
    """
    config = resolve(cfg)
    seed = call("", integer, "seed", config["seed"], 0)
    source: Source = part(config, "data")
    known = call("data", source.documents) if documents is None else list(documents)
    objects = {
        "streams": part(config, "streams", seed=seed),
        **{name: part(config, name) for name in ("engine", "loss", "optimizer", "schedule")},
        "sampler": call("sampling", Sampler, **_taken("sampling", Sampler, config["sampling"])),
    }
    numbers = _taken("trainer", Trainer, config["trainer"], {*objects, "model", "corpus"})
    trainer = call(
        "",
        assemble,
        source=source,
        documents=known,
        model=lambda vocab_size: part(config, "model", vocab_size=vocab_size),
        **objects,
        **numbers,
    )
    return Parts(config, known, data_facts(source, known, trainer), trainer)


def part(config: Mapping[str, Any], key: str, **extra: Any) -> Any:
    """The object that the group `key` describes. Raises ConfigError."""
    _check_part(key, config[key], extra)
    try:
        return instantiate(OmegaConf.create({key: config[key]})[key], **extra)
    except InstantiationException as error:
        found = re.search(r"full_key: (\S+)", str(error))
        name = found[1] if found else key
        raise ConfigError(_line(name, error.__cause__ or error)) from error


def call(key: str, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """What `function` returns; what it refuses is told under `key`. Raises ConfigError."""
    try:
        return function(*args, **kwargs)
    except (BadValue, TypeError) as error:
        raise ConfigError(_line(key, error)) from error


def data_facts(source: Source, documents: Sequence[str], trainer: Trainer) -> dict[str, Any]:
    """What is worth knowing of the data: sizes in documents and characters, vocabulary, identity."""
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
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
        "digest": digest(documents, corpus.batching),
        **source.facts(),
    }


def _check_keys(config: Mapping[str, Any]) -> None:
    """All keys are there and none besides. Raises ConfigError."""
    for key in KEYS:
        if key not in config:
            raise ConfigError(
                f"{key}: must be there; microgpt train --help says what may stand in it"
            )
    for key, value in config.items():
        if key not in KEYS:
            raise ConfigError(f"{key}={_shown(value)}: no such key; there are {', '.join(KEYS)}")
    for key in SECTIONS:
        if not isinstance(config[key], Mapping):
            raise ConfigError(f"{key}={_shown(config[key])}: must hold keys, as {key}.KEY=VALUE")
    for key in ("progress", "skip"):
        if not isinstance(config[key], bool):
            raise ConfigError(f"{key}={_shown(config[key])}: must be true or false")


def _check_part(key: str, value: Any, extra: Collection[str] = ()) -> None:
    """A group's value names a class, and so do those of the groups in it. Raises ConfigError."""
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        group = key.replace(".", "/")
        shown = f"{key}._target_" if isinstance(value, Mapping) else f"{key}={_shown(value)}"
        raise ConfigError(
            f"{shown}: must name a class; write {group}=OPTION, see microgpt train --help"
        )
    try:
        target = get_object(value["_target_"])
    except Exception as error:  # a module of the user's may raise anything
        shown = f"{key}._target_={value['_target_']!r}"
        raise ConfigError(f"{shown}: cannot be imported ({_import_problem(error)})") from error
    _taken(key, target, value, extra)
    for name in _parts_of(target):
        if name in value:
            _check_part(f"{key}.{name}", value[name])


def _taken(
    key: str, target: Any, value: Mapping[str, Any], extra: Collection[str] = ()
) -> Mapping[str, Any]:
    """`value`, all of whose keys `target` takes beside those that it is given. Raises ConfigError."""
    arguments = signature(target).parameters.values()
    if any(argument.kind is Parameter.VAR_KEYWORD for argument in arguments):
        return value
    names = [argument.name for argument in arguments if argument.name not in extra]
    for name in value:
        if name not in names and not name.startswith("_"):
            shown = f"{key}.{name}={_shown(value[name])}"
            raise ConfigError(f"{shown}: no such key; {key} has {', '.join(names) or 'none'}")
    return value


def _parts_of(target: Any) -> list[str]:
    """The arguments of a class that are objects of ours, and so groups in the configuration."""
    if not isclass(target):
        return []
    arguments = signature(target).parameters.items()
    ours = __name__.partition(".")[0]
    return [
        name
        for name, given in arguments
        if getattr(given.annotation, "__module__", "").startswith(ours)
    ]


def _import_problem(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    advice = "; Python looks in its site-packages and in PYTHONPATH"
    return text + (advice if isinstance(error, ModuleNotFoundError) else "")


def _line(key: str, error: BaseException) -> str:
    """One line of complaint, with the full name of the key where the error names one."""
    text = str(error)
    if isinstance(error, BadValue):
        name = f"{key}.{error.key}" if key else error.key
        return f"{name}={_shown(error.value)}: {error.allowed}"
    if found := re.search(r"unexpected keyword argument '(\w+)'", text):
        return f"{key}.{found[1]}: no such key here"
    if found := re.search(r"missing \d+ required keyword-only arguments?: '(\w+)'", text):
        return f"{key}.{found[1]}: is missing"
    place = extract_tb(error.__traceback__)[-1:]
    where = "".join(f", {Path(frame.filename).name} line {frame.lineno}" for frame in place)
    first = text.splitlines()[0] if text else ""
    return f"{key}: {type(error).__name__}: {first}{where}"


def _shown(value: Any) -> str:
    """A value as the command line has it."""
    return {"None": "null", "True": "true", "False": "false"}.get(repr(value), repr(value))
