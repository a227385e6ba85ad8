"""Explains in one line what is wrong with the overrides of a command line; Hydra prints up to eleven."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from microgpt.hints import SWEEPING, meant, several, unreadable
from microgpt.syntax import quoted, written
from microgpt.terminal import ConfigError, first_line

# The exceptions of Hydra, OmegaConf and their file readers when a configuration cannot be composed.
UNCOMPOSED = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
ABSENT = ("experiment", "debug")  # groups of which no option is chosen by default
MANY = 100  # values of a sweep that are looked at
PRESETS = ("debug=", "experiment=")


class Unusable(HydraException):
    """What Hydra raises for words that it did not expect, such as a TypeError for `model=[[1]]`."""


@contextmanager
def composing() -> Iterator[None]:
    """Raises one of UNCOMPOSED for whatever Hydra raises in the block, which must run no code of ours."""
    try:
        yield
    except (*UNCOMPOSED, ConfigError, BrokenPipeError):
        raise
    except OSError as error:
        raise HydraException(first_line(error)) from None
    except ValueError as error:  # such as that for `model=null`: its message is for users
        raise HydraException(str(error)) from None
    except Exception as error:
        name, text = type(error).__name__, first_line(error)
        raise Unusable(name if text == name else f"{name}: {text}") from error


def parsed(word: str) -> Override:
    """Parses one override. Raises ConfigError."""
    try:
        with composing():
            return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(f"{word}: {unreadable(word)}") from error


def explain(error: Exception, words: Sequence[str], folders: Sequence[Path], many: bool) -> str:
    """Why Hydra rejected the overrides `words` with the configurations in `folders`, in one line.

    many  whether a sweep was asked for. Raises ConfigError for words that are no overrides.
    """
    groups = _groups(folders)
    overrides = [parsed(word) for word in words]
    wrong = [_wrong_option(override, groups) for override in overrides]
    if not any(wrong) and not isinstance(error, MissingConfigException):
        wrong = _wrong_keys(overrides, groups, folders)
    if not any(wrong) and not many:
        wrong = [several(str(o.input_line)) for o in overrides if o.is_sweep_override()]
    if not any(wrong) and isinstance(error, Unusable):
        alone = [str(o.input_line) for o in overrides if not (many and o.is_sweep_override())]
        wrong = [f"{_culprits(alone, folders)}: Hydra cannot use it ({first_line(error)})"]
    return next(filter(None, wrong), None) or _plainly(error, folders)


def with_preset(line: str, words: Sequence[str]) -> str:
    """A line about a key that does not exist, with the preset that sets it, if nobody typed the key."""
    key, group = line.partition("=")[0], line.partition(".")[0]
    presets = [word for word in words if word.startswith(PRESETS)]
    others = [word for word in words if word.startswith(f"{group}=")]
    typed = any(word.lstrip("+").startswith(f"{key}=") for word in words)
    if typed or not presets or not others or ": no such key" not in line:
        return line
    return f"{line}; {presets[-1]} sets it, for a {group} of its own: leave out {others[-1]}"


def refuse_sweeping(words: Sequence[str]) -> None:
    """Raises ConfigError for words of a sweep."""
    for word in words:
        if word.lstrip("+~").startswith("hydra.sweeper."):
            raise ConfigError(f"{word}: is for a sweep; {SWEEPING.get()}")


def of_a_sweep(sweeper: DictConfig, experiment: object) -> list[str]:
    """What one run of an experiment with a sweep is told before it begins."""
    if not (sweeper.get("params") or sweeper.get("arms")):
        return []
    told = f"experiment={written(experiment)}: this trains one run"
    return [f"{told}; {SWEEPING.get()} for its sweep"]


def _culprits(words: Sequence[str], folders: Sequence[Path]) -> str:
    """The word without which the others can be composed; else those that are for Hydra itself; else all."""
    if not _can_be_composed(words, folders):
        for i, word in enumerate(words):
            if _can_be_composed([*words[:i], *words[i + 1 :]], folders):
                return word
    return " ".join([word for word in words if word.lstrip("+~").startswith("hydra")] or words)


def config_line(error: OmegaConfBaseException) -> str:
    """The message for a value that cannot be resolved, such as `${nothing}` or a missing one."""
    text = first_line(error)
    text = text.partition("raised while resolving interpolation: ")[2] or text
    return f"{error.full_key}: {text}" if error.full_key and "=" not in text else text


def _plainly(error: Exception, folders: Sequence[Path]) -> str:
    """Hydra's message, without its advice for programmers."""
    if isinstance(error, MissingConfigException) and error.options:
        return f"{error.missing_cfg_file}: no such option; there are {', '.join(error.options)}"
    if isinstance(error, OmegaConfBaseException):
        return config_line(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: invalid YAML ({error.problem})"
    if isinstance(error, UnicodeDecodeError):
        return f"{_undecodable(folders)}: must be UTF-8 text, but byte {error.start} is not"
    cause = error.__cause__ if isinstance(error, HydraException) else None
    return first_line(error) + (f" ({first_line(cause)})" if cause else "")


def _undecodable(folders: Sequence[Path]) -> str:
    """The first configuration file that is not UTF-8; Python's error does not name it."""
    for file in (file for folder in folders for file in sorted(folder.rglob("*.yaml"))):
        try:
            file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            return str(file)
    return "a configuration file"


def _groups(folders: Sequence[Path]) -> dict[str, set[str]]:
    """The options of each group in the folders, `{"model/norm": {"layernorm", ...}}`, except Hydra's."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for file in folder.glob("*/**/*.yaml"):
            groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: options for group, options in groups.items() if not group.startswith("hydra/")}


def _wrong_option(override: Override, groups: dict[str, set[str]]) -> str | None:
    """The error for an override that selects an unknown option of a group, else None."""
    group = override.key_or_group
    if group not in groups or override.is_delete():
        return None
    chosen: Any = override.value()
    if override.is_sweep_override():
        try:
            chosen = list(islice(override.sweep_string_iterator(), MANY))
        except (HydraException, ValueError):  # a pattern, a range whose step is 0
            return None
    for option in chosen if isinstance(chosen, list) else [chosen]:
        if str(option) not in groups[group] and not (option is None and group in ABSENT):
            there = ", ".join(sorted(groups[group]))
            return f"{group}={written(option)}: no such option; there are {there}"
    return None


def _wrong_keys(
    overrides: Sequence[Override], groups: dict[str, set[str]], folders: Sequence[Path]
) -> list[str | None]:
    """For each override, the error if its key is unknown, or exists already with +; else None."""
    try:
        chosen = [o for o in overrides if o.key_or_group in groups and not o.is_sweep_override()]
        keys = _keys([str(o.input_line) for o in chosen if o.type == OverrideType.CHANGE], folders)
    except UNCOMPOSED:
        return []
    return [_wrong_key(override, keys, groups) for override in overrides]


def _wrong_key(override: Override, keys: dict[str, Any], groups: dict[str, set[str]]) -> str | None:
    key, word = override.key_or_group, override.input_line
    if not key:
        return f"{word}: {unreadable(str(word))}"
    if key.startswith("hydra"):
        return None
    there = key.replace("/", ".") in keys
    if override.is_add():
        return f"{word}: {key} exists already; write it without the +" if there else None
    if there or key in groups:
        return None
    return f"{word}: no such key; {meant(key, keys, groups, str(word))}"


def _keys(choices: list[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Full name -> value of every key of the configuration with these choices; "" is the root."""
    keys: dict[str, Any] = {"": OmegaConf.to_container(composed(choices, folders))}
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        for name, value in keys[parent].items():
            keys[f"{parent}.{name}".lstrip(".")] = value
            if isinstance(value, dict):
                waiting.append(f"{parent}.{name}".lstrip("."))
    return keys


def composed(words: Sequence[str], folders: Sequence[Path]) -> DictConfig:
    """The configuration with these overrides, from the files in the folders. Raises one of UNCOMPOSED."""
    places = ",".join(quoted(f"file://{folder.absolute()}") for folder in folders[1:])
    search = [f"hydra.searchpath=[{places}]"]
    with composing(), initialize_config_dir(str(folders[0]), version_base="1.3"):
        return compose("train", [*words, *search])


def _can_be_composed(words: Sequence[str], folders: Sequence[Path]) -> bool:
    try:
        composed(words, folders)
    except UNCOMPOSED:
        return False
    return True
