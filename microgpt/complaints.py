"""Explains in one line what is wrong with the overrides of a command line; Hydra prints up to eleven."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from microgpt.syntax import written
from microgpt.terminal import first_line

# The exceptions of Hydra, OmegaConf and their file readers when a configuration cannot be composed.
UNCOMPOSED = (HydraException, OmegaConfBaseException, YAMLError, UnicodeDecodeError)
UNREADABLE = (
    "cannot be read; write key=value, and 'key=\"value\"' with quotes if there is a space "
    "or one of = , ~ ( ) [ ] { } in the value"
)


@contextmanager
def composing() -> Iterator[None]:
    """Turns a plain ValueError of Hydra, raised for example by `model=null`, into a HydraException."""
    try:
        yield
    except UNCOMPOSED:
        raise
    except ValueError as error:
        raise HydraException(str(error)) from None


def explain(error: Exception, words: Sequence[str], folders: Sequence[Path]) -> str:
    """Why Hydra rejected the overrides `words` with the configurations in `folders`, in one line."""
    groups = _groups(folders)
    overrides = []
    for word in words:
        try:
            overrides.append(OverridesParser.create().parse_override(word))
        except HydraException:
            return f"{word}: {UNREADABLE}"
    wrong = [_wrong_option(override, groups) for override in overrides]
    if not any(wrong) and not isinstance(error, MissingConfigException):
        wrong = _wrong_keys(overrides, groups, folders)
    return next(filter(None, wrong), None) or _plainly(error, folders)


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
    swept = override.is_sweep_override() and override.is_discrete_sweep()
    value: Any = list(override.sweep_string_iterator()) if swept else override.value()
    for option in value if isinstance(value, list) else [value]:
        if option not in groups[group] and not (option is None and group == "experiment"):
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
        return f"{word}: {UNREADABLE}"
    if key.startswith("hydra"):
        return None
    there = key.replace("/", ".") in keys
    if override.is_add():
        return f"{word}: {key} exists already; write it without the +" if there else None
    return None if there or key in groups else f"{word}: no such key; {_advice(key, keys, groups)}"


def _advice(key: str, keys: dict[str, Any], groups: dict[str, set[str]]) -> str:
    """Advice: the most similar key, or the keys that exist at that level."""
    parent, _, name = key.rpartition(".")
    near = [there for there in keys if there.rpartition(".")[2] == name]
    near = near or get_close_matches(key, [*keys, *groups], 1, 0.8)
    if near and near != [parent]:
        return f"did you mean {' or '.join(near)}?"
    beside = keys.get(parent)
    names = (
        [str(there) for there in beside if there != "_target_"] if isinstance(beside, dict) else []
    )
    if parent in keys and parent:
        return f"{parent} has {', '.join(names)}" if names else f"{parent} holds no keys"
    return f"there are {', '.join(keys[''])}"


def _keys(choices: list[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Full name -> value of every key of the configuration with these choices; "" is the root."""
    search = [f"hydra.searchpath=[{','.join(f'file://{f.absolute()}' for f in folders[1:])}]"]
    with composing(), initialize_config_dir(str(folders[0]), version_base="1.3"):
        cfg = compose("train", choices + search)
    keys: dict[str, Any] = {"": OmegaConf.to_container(cfg)}
    waiting = [""]
    while waiting:
        parent = waiting.pop()
        for name, value in keys[parent].items():
            keys[f"{parent}.{name}".lstrip(".")] = value
            if isinstance(value, dict):
                waiting.append(f"{parent}.{name}".lstrip("."))
    return keys
