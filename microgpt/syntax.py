"""The syntax of overrides on the command line."""

import re


def key_and_value(override: str) -> tuple[str, str]:
    """`+a.b=c` -> `("a.b", "c")`."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def written(value: object) -> str:
    """A value as on the command line; strings without quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def shown(value: object) -> str:
    """A value as on the command line; strings with quotes, so that an empty one is visible."""
    return repr(value) if isinstance(value, str) else written(value)


def quoted(text: str) -> str:
    """A text as Hydra reads it on a command line, whatever is in it."""
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)  # a backslash counts before a quote alone
    return '"' + re.sub(r"(\\+)$", r"\1\1", escaped) + '"'
