"""How overrides are written on the command line."""


def key_and_value(override: str) -> tuple[str, str]:
    """`+a.b=c` -> `("a.b", "c")`."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


def written(value: object) -> str:
    """A value as it is written on the command line, a text without quotes."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def shown(value: object) -> str:
    """The same with quotes around a text, so that an empty or odd one can be seen."""
    return repr(value) if isinstance(value, str) else written(value)
