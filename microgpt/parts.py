"""Instantiates objects from configurations: calls the `_target_`, any callable, after its arguments."""

import re
from collections.abc import Collection, Hashable, Mapping
from functools import lru_cache, partial
from inspect import Parameter, isclass, signature
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from microgpt.core.check import BadValue
from microgpt.syntax import shown
from microgpt.terminal import ConfigError, first_line

Parameters: TypeAlias = Mapping[str, Parameter]
OURS = __name__.partition(".")[0]


def made(key: str, value: Any, asked: type | None, extra: Mapping[str, Any]) -> Any:
    """Calls the `_target_` of `value` with the other keys and `extra`. Raises ConfigError.

    asked  the required class of the result; another class must have its public attributes
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        group = key.replace(".", "/")
        name = f"{key}._target_" if isinstance(value, Mapping) else f"{key}={shown(value)}"
        raise ConfigError(
            f"{name}: must name a class; write {group}=OPTION, see microgpt train --help"
        )
    name = f"{key}._target_={value['_target_']!r}"
    target = target_of(name, value["_target_"])
    parameters = parameters_of(target, name)
    check_arguments(key, parameters, value, extra, len(value.get("_args_", ())))
    own = {each: of for each, of in value.items() if not each.startswith("_")}
    arguments = {
        each: _argument(f"{key}.{each}", of, asked_of(parameters.get(each), of))
        for each, of in own.items()
    }
    of_hydra = {each: of for each, of in value.items() if each not in own}
    try:
        result = _called(name, target, of_hydra, {**arguments, **extra})
    except BadValue as error:
        raise refused(key, error) from error
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if not found or found[1] not in own or not _takes_any(parameters):
            raise
        raise ConfigError(f"{key}.{found[1]}: no such key here") from error
    if asked is not None and (lacks := _lacking(result, asked)):
        article = "an" if asked.__name__[0] in "AEIO" else "a"
        problem = (
            f"must make {article} {asked.__name__}, but {type(result).__name__} has no {lacks}"
        )
        raise ConfigError(f"{name}: {problem}")
    return result


def parameters_of(target: Any, name: str = "") -> Parameters:
    """The parameters of a callable, with evaluated annotations if possible. Raises ConfigError."""
    if not callable(target):
        kind = type(target).__name__
        raise ConfigError(f"{name}: must be callable, a class or a function, but is of type {kind}")
    for evaluated in (True, False):
        try:
            known = isinstance(target, Hashable)
            return (_signature if known else signature)(target, eval_str=evaluated).parameters
        except (NameError, AttributeError, SyntaxError):  # a text for type checkers alone
            continue
        except (TypeError, ValueError):
            break
    raise ConfigError(f"{name}: has no readable arguments; wrap it in a Python function")


_signature = lru_cache(256)(signature)  # Python takes longer for one than to make a part


def asked_of(parameter: Parameter | None, value: Any) -> type | None:
    """The class of this package that annotates a parameter, if any: its value is then instantiated."""
    if parameter is None:
        return None
    annotation = parameter.annotation
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    if value is None and NoneType in kinds:
        return None
    ours = [kind for kind in kinds if isclass(kind) and kind.__module__.split(".")[0] == OURS]
    return ours[0] if ours else None


def check_arguments(
    key: str,
    parameters: Parameters,
    value: Mapping[str, Any],
    extra: Collection[str] = (),
    positional: int = 0,
) -> None:
    """Raises ConfigError unless the keys of `value` and `extra` are the arguments of a callable.

    positional  the number of positional arguments

    Keys that begin with _ are Hydra's.
    """
    named = [each for each in list(parameters.values())[positional:] if each.name not in extra]
    any_number = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
    names = [each.name for each in named if each.kind not in any_number]
    before = f"{key}." if key else ""
    for each in value:
        if not _takes_any(parameters) and each not in names and not each.startswith("_"):
            there = ", ".join(names) or "none"
            raise ConfigError(
                f"{before}{each}={shown(value[each])}: no such key; {key} has {there}"
            )
    for each in names:
        if each not in value and parameters[each].default is Parameter.empty:
            raise ConfigError(f"{before}{each}: is missing")


def _takes_any(parameters: Parameters) -> bool:
    """Whether a callable has a `**kwargs` parameter."""
    return any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values())


def refused(key: str, error: BadValue) -> ConfigError:
    """A BadValue as a ConfigError with the full name of the key."""
    name = f"{key}.{error.key}" if key else error.key
    return ConfigError(f"{name}={shown(error.value)}: {error.allowed}")


def target_of(name: str, path: str) -> Any:
    """Imports the object that a dotted path names. Raises ConfigError."""
    try:
        return get_object(path)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(f"{name}: cannot be imported ({_import_problem(error)})") from error


def _import_problem(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    advice = "; Python looks in its site-packages and in PYTHONPATH"
    return first_line(error) + (advice if isinstance(error, ModuleNotFoundError) else "")


def _argument(key: str, value: Any, asked: type | None) -> Any:
    """A value of the configuration, with every `_target_` in it instantiated. Raises ConfigError."""
    if asked or (isinstance(value, Mapping) and "_target_" in value):
        return made(key, value, asked, {})
    if isinstance(value, Mapping):
        return {each: _argument(f"{key}.{each}", of, None) for each, of in value.items()}
    if isinstance(value, list):
        return [_argument(f"{key}[{i}]", of, None) for i, of in enumerate(value)]
    return value


def _called(name: str, target: Any, node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """What Hydra's `node`, with its `_target_`, gives for these arguments.

    Raises ConfigError if Hydra forbids the target; exceptions of the target pass unchanged.
    """
    try:
        simple = node.keys() <= {"_target_", "_partial_"}
        make = _maker(node["_target_"], id(target)) if simple else _deferred(node)
        return partial(make, **arguments) if node.get("_partial_") else make(**arguments)
    except InstantiationException as error:
        raise ConfigError(f"{name}: {first_line(error)}") from error


@lru_cache(256)
def _maker(path: str, identity: int) -> Any:
    """What makes objects of the class with this path; it holds the class, which keeps its identity.

    Hydra asks before each call whether it allows the target. A class of ours it has allowed for good.
    """
    made = _deferred({"_target_": path})
    if made.args or made.keywords or not isclass(made.func):
        return made
    return made.func if made.func.__module__.partition(".")[0] == OURS else made


def _deferred(node: Mapping[str, Any]) -> Any:
    """What makes the object of a node, when it is called.

    `instantiate` itself would wrap what the call raises, and turn objects into configurations.
    """
    return instantiate({**node, "_partial_": True})


def _lacking(result: Any, asked: type) -> str:
    """The public attributes of `asked` that `result` lacks, unless it is an instance."""
    if asked in type(result).__mro__:
        return ""
    public = [name for name in dir(asked) if name == "__call__" or not name.startswith("_")]
    return ", ".join(name for name in public if not hasattr(result, name))
