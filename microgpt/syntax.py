"""The syntax of overrides on the command line."""


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
