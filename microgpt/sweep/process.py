"""A worker process on this machine, as the launcher sees it: behind a pipe, out of reach for others."""

import os
from contextlib import suppress
from multiprocessing import Pipe
from signal import Signals
from subprocess import TimeoutExpired
from typing import Any

import psutil

from microgpt.child import start_module
from microgpt.sweep import serve

# A worker has one core: more threads would wait for each other. What it frees goes back to the system.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
ENVIRONMENT |= {"MALLOC_TRIM_THRESHOLD_": "65536"}


class Worker:
    """A worker process, as the launcher sees it."""

    def __init__(self) -> None:
        self.task: int | None = None  # the index of the task that it has
        self.fault = ""  # why it was killed
        self.pipe, theirs = Pipe()
        with theirs:
            environment = ENVIRONMENT | os.environ
            self._process = start_module(serve.__name__, theirs, env=environment)
        self._seen = psutil.Process(self._process.pid)

    @property
    def memory(self) -> int:
        """Resident bytes; 0 if it has ended."""
        try:
            return int(self._seen.memory_info().rss)
        except psutil.Error:
            return 0

    def tell(self, message: Any) -> None:
        """Sends a message. That a worker has died is seen when its pipe is read."""
        with suppress(OSError):
            self.pipe.send(message)

    def wait(self, seconds: float) -> None:
        """Waits until it has ended, for some seconds."""
        with suppress(TimeoutExpired):
            self._process.wait(seconds)

    def kill(self, fault: str) -> None:
        """Ends it at once, because of `fault`."""
        self.fault = fault
        self._process.kill()

    def bury(self) -> str:
        """Ends it, if it has not ended; tells why it did."""
        self._process.kill()
        code = self._process.wait()
        self.pipe.close()
        how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return self.fault or how
