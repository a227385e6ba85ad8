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
        if isinstance(error, OSError):
            complain(first_line(error))
            return os_error
        return reported(error)


def interrupt_before(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that led to an error, in a library that it kept from cleaning up; None if none did."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def reported(error: Exception) -> int:
    """Prints an error, in one line if it is the user's; returns an exit code."""
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

    if isinstance(error, OmegaConfBaseException):
        complain(config_line(error))
        return WRONG_INPUT
    if isinstance(error, (ConfigError, BadValue, UnknownCharacter, NoSuchRun, BadRecord, Busy)):
        complain(str(error))
        return WRONG_INPUT
    if isinstance(error, (StoreError, Deleted)):
        complain(str(error))
    else:
        text = "".join(traceback.format_exception(error))
        print(blackened(text), end="", file=sys.stderr)
    return RUN_FAILED
