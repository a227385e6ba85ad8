"""From the errors of a command to its exit code."""

import traceback
from collections.abc import Callable

from microgpt.terminal import (
    INTERRUPTED,
    OK,
    RUN_FAILED,
    WRONG_INPUT,
    ConfigError,
    complain,
    first_line,
)


def guarded(command: Callable[[], int | None], os_error: int = WRONG_INPUT) -> int:
    """The exit code of a command, `os_error` where the system refused it something.

    An error that the user can mend is one line; a fault of the program is a traceback.
    """
    try:
        return command() or OK
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: the console script knows
        raise
    except OSError as error:
        complain(first_line(error))
        return os_error
    except Exception as error:
        return reported(error)


def reported(error: Exception) -> int:
    """Print an error, in one line where the user can mend it; returns an exit code."""
    # Imported here: no command waits for all of this unless it fails.
    from omegaconf.errors import OmegaConfBaseException

    from microgpt.complaints import config_line
    from microgpt.core.check import BadValue
    from microgpt.core.tokenizer import UnknownCharacter
    from microgpt.run.checkpoint import BadCheckpoint
    from microgpt.run.folder import NoSuchRun
    from microgpt.run.record import Busy
    from microgpt.tracking import StoreError

    if isinstance(error, OmegaConfBaseException):
        complain(config_line(error))
        return WRONG_INPUT
    if isinstance(error, (ConfigError, BadValue, UnknownCharacter, NoSuchRun, BadCheckpoint, Busy)):
        complain(str(error))
        return WRONG_INPUT
    if isinstance(error, StoreError):
        complain(str(error))
    else:
        traceback.print_exception(error)
    return RUN_FAILED
