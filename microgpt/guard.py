"""Maps the exceptions of a command to messages and exit codes."""

import sys
import traceback
from collections.abc import Callable

from microgpt.secret import blackened
from microgpt.terminal import (
    OK,
    RUN_FAILED,
    WRONG_INPUT,
    ConfigError,
    complain,
    first_line,
)


def guarded(command: Callable[[], int | None], os_error: int = WRONG_INPUT) -> int:
    """Runs a command; returns its exit code, `os_error` for an OSError.

    User errors are printed in one line, other exceptions with a traceback.
    """
    try:
        return command() or OK
    except BrokenPipeError:  # the console script handles a closed output
        raise
    except Exception as error:
        if interrupt := interrupt_before(error):
            raise interrupt from error
        line, code = expected(error)
        if line is None:
            print(blackened("".join(traceback.format_exception(error))), end="", file=sys.stderr)
            return RUN_FAILED
        complain(line)
        return os_error if isinstance(error, OSError) else code


def interrupt_before(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that led to an error, in a library that it kept from cleaning up; None if none did."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def expected(error: Exception) -> tuple[str | None, int]:
    """What to say of an error, and the exit code; None for an error that nobody foresaw."""
    # Imported here, since only a command that fails needs them.
    from omegaconf.errors import OmegaConfBaseException

    from microgpt.complaints import config_line
    from microgpt.core.check import BadValue
    from microgpt.core.tokenizer import UnknownCharacter
    from microgpt.run.folder import NoSuchRun
    from microgpt.run.kept import Deleted
    from microgpt.run.reading import BadRecord
    from microgpt.run.record import Busy
    from microgpt.tracking import StoreError

    if isinstance(error, OSError):
        return first_line(error), WRONG_INPUT
    if isinstance(error, OmegaConfBaseException):
        return config_line(error), WRONG_INPUT
    if isinstance(error, (ConfigError, BadValue, UnknownCharacter, NoSuchRun, BadRecord, Busy)):
        return str(error), WRONG_INPUT
    if isinstance(error, (StoreError, Deleted)):
        return str(error), RUN_FAILED
    return None, RUN_FAILED
