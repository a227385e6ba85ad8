"""Child processes that run a module of this package, each with a connection to its parent."""

import os
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from subprocess import DEVNULL, Popen
from typing import Any


def start_module(
    module: str, end: "Connection[Any, Any]", *words: str, env: Mapping[str, str], **popen: Any
) -> "Popen[bytes]":
    """Starts `python -m module FD words`; FD is the descriptor of `end`, the child's end of a pipe.

    Not by `multiprocessing`: it runs the parent's `__main__` again, and leaves semaphores in /dev/shm if
    all processes are killed.
    """
    # The modules that the parent finds; with -P, no others of the current folder.
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    return Popen(
        [sys.executable, "-P", "-m", module, str(end.fileno()), *words],
        env={**env, "PYTHONPATH": path},
        pass_fds=[end.fileno()],
        stdin=DEVNULL,
        start_new_session=True,  # Ctrl-C, and signals to the process group, are for the parent
        **popen,
    )
