"""The exception of `microgpt`'s functions."""

from collections.abc import Iterator
from contextlib import contextmanager

from microgpt.guard import expected
from microgpt.terminal import complaint


class Error(ValueError):
    """Wrong input, or a store that does not answer; the message is the line that the command prints."""


@contextmanager
def clean() -> Iterator[None]:
    """Raises Error for whatever a command reports in one line."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        line, _ = expected(error)
        if line is None:
            raise
        raise Error(complaint(line)) from None
