"""The process beside this one that sends to stores, as this one sees it.

MLflow takes seconds to import, and a process that holds its objects trains some 7 % slower: in a
process of its own it costs the training nothing. `sending` is what runs there.
"""

import sys
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from multiprocessing import Pipe
from subprocess import DEVNULL, Popen
from threading import Lock, Thread
from typing import Any, ClassVar


class Ended(RuntimeError):
    """The process that sends is no more."""


class Process:
    """Sends for this process until this one ends, and then what there still is to send."""

    _beside: ClassVar["Process | None"] = None
    _one: ClassVar[Lock] = Lock()

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        self._answers: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._lock = Lock()
        self._ended = False
        self._child: Popen[bytes] | None = None
        with theirs, suppress(OSError):  # there may be too many: then nobody listens
            end = theirs.fileno()
            self._child = Popen(
                # -P: modules of the folder that the command was given in are not meant
                [sys.executable, "-P", "-m", "microgpt.tracking.sending", str(end)],
                pass_fds=[end],
                stdin=DEVNULL,
                stdout=DEVNULL,  # who reads our output must not wait for another process
                stderr=DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
        Thread(target=self._listen, name="listening", daemon=True).start()

    @classmethod
    def beside(cls) -> "Process":
        """The one that sends for this process, started if need be."""
        with cls._one:
            if cls._beside is None or cls._beside._ended:
                cls._beside = cls()
            return cls._beside

    def ask(self, question: str, *words: Any) -> "Future[Any]":
        """Call a method of its `Senders`. The answer raises Ended if it is no more."""
        answer: Future[Any] = Future()
        with self._lock:
            number = next(self._numbers)
            self._answers[number] = answer
            try:
                if not self._ended:
                    self._connection.send((number, question, words))
            except OSError:
                self._ended = True
            if self._ended:
                self._fail()
        return answer

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                number, said = self._connection.recv()
                with self._lock:
                    answer = self._answers.pop(number)
                answer.set_result(said)
        with self._lock:
            self._ended = True
            self._fail()
        if self._child is not None:
            self._child.wait()

    def _fail(self) -> None:
        for answer in self._answers.values():
            answer.set_exception(Ended("the process that sends has ended"))
        self._answers.clear()


def flush(patience: float) -> None:
    """Send all that this process has under way, within so many seconds."""
    if process := Process._beside:
        with suppress(TimeoutError, Ended):
            process.ask("flush").result(patience)
