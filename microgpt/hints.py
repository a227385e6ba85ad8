"""Advice for overrides of the command line that cannot be used: what was probably meant."""

import re
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

# How who asked for one run asks for a sweep: on the command line, or else from Python.
SWEEPING = ContextVar("SWEEPING", default="add -m")
QUOTES = "'key=\"value\"' with quotes if there is a space or one of = , ~ ( ) [ ] { } in the value"


def unreadable(word: str) -> str:
    """What to write instead of a word that is no override."""
    sign, (key, equals, value) = word[:1], word.lstrip("+~").partition("=")
    if not equals:
        marked = {"+": "+key=value adds a key", "~": "~key removes a key"}.get(sign)
        return "cannot be read; write key=value" + (f"; {marked}" if marked else "")
    if not key:
        return "must be key=value, with a key, and without spaces around ="
    if value.count("'") % 2 or value.count('"') % 2:
        return f"a quote is not closed; write {QUOTES}"
    return f"cannot be read; write key=value, and {QUOTES}"


def undashed(word: str) -> str:
    """What follows a complaint about an option that was meant as a key; empty if it was not."""
    return f"; write {word.lstrip('-')}, without dashes" if re.match(r"--?[\w./]+=", word) else ""


def decimal(word: str) -> str:
    """An override with a decimal point where its number has a comma; empty if it has none."""
    key, _, value = word.partition("=")
    is_one = re.fullmatch(r"[+-]?(0,\d+|\d+,0\d*)", value)
    return f"{key}={value.replace(',', '.')}" if is_one else ""


def several(word: str) -> str:
    """What to write instead of a sweep where one run was asked for."""
    key, _, value = word.partition("=")
    if one := decimal(word):
        return f"{word}: {SWEEPING.get()} for a sweep of several values; write {one} for one number"
    quoted = (
        f"; write '{key}=\"{value}\"' for one text" if "," in value and "(" not in value else ""
    )
    return f"{word}: {SWEEPING.get()} for a sweep of several values{quoted}"


def meant(key: str, keys: Mapping[str, Any], groups: Collection[str], word: str = "") -> str:
    """The most similar key, or the keys that exist at that level.

    keys  full name -> value of every key; "" is the root
    word  the override, whose decimal comma is replaced by a point
    """
    parent, _, name = key.rpartition(".")
    near = [there for there in keys if there.rpartition(".")[2] == name]
    near = near or get_close_matches(key, [*keys, *groups], 1, 0.8)
    if near and near != [parent]:
        value = decimal(word).partition("=")[2]
        return f"did you mean {' or '.join(near)}{f'={value}' if value else ''}?"
    beside = keys.get(parent)
    names = (
        [str(there) for there in beside if there != "_target_"] if isinstance(beside, dict) else []
    )
    if parent in keys and parent:
        return f"{parent} has {', '.join(names)}" if names else f"{parent} holds no keys"
    return f"there are {', '.join(keys[''])}"
