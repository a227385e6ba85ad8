"""Locks on files, as far as the file system has any."""

import errno
import fcntl
import os
from typing import IO, Any

from microgpt.terminal import complain

# What a file system without locks says: Lustre, for example, unless it is mounted with `flock`.
NONE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
TOLD = "MICROGPT_NO_LOCKS"  # in the environment: the processes that this one starts need not tell again


def lock(file: int | IO[Any], how: int) -> bool | None:
    """Take one, with the flags `how` of flock. Returns whether it was taken; None where there are none."""
    try:
        fcntl.flock(file, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NONE:
            raise
        if TOLD not in os.environ:
            os.environ[TOLD] = "1"
            problem = "this file system has no locks: let one process at a time work on a run"
            complain(f"{problem}; one that was killed stays `running` until it is resumed")
        return None
    return True
