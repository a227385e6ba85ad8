"""The process beside this one that sends to stores, as this one sees it.

MLflow takes seconds to import, and a process that holds its objects trains some 7 % slower. In a process
of its own it costs the steps hardly anything where a core is free. `sending` is what runs there. The
workers of a sweep share that of the launcher where they can reach it.
"""

import os
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from itertools import count
from multiprocessing import Pipe
from multiprocessing.connection import Client, Connection
from pathlib import Path
from shutil import rmtree
from stat import S_IRWXG, S_IRWXO, S_ISDIR
from subprocess import DEVNULL, Popen
from tempfile import TemporaryFile, mkdtemp
from threading import Lock, Thread
from typing import IO, Any, ClassVar, Literal, TypeAlias

from microgpt.child import start_module
from microgpt.secret import blackened

Question: TypeAlias = Literal[
    "add", "stored", "elsewhere", "home", "left", "flush"
]  # a method of `sending.Service`


class Trouble(RuntimeError):
    """The process that sends has no answer: what went wrong there, or how it ended."""


class SendingProcess:
    """Sends for this process until this one ends, and then what there still is to send."""

    _beside: ClassVar["SendingProcess | None"] = None
    _one: ClassVar[Lock] = Lock()
    _offered: ClassVar[str | None] = None

    def __init__(self, offered: str | None = None) -> None:
        self._answers: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._writing = Lock()
        self._end = ""  # how it ended
        self._child: Popen[bytes] | None = None
        self._said: IO[bytes] | None = None  # what it complains of
        self.place = ""  # where other processes may reach it
        try:
            self._connection = self._joined(offered) or self._own()
            Thread(target=self._listen, name="listening", daemon=True).start()
        except (OSError, RuntimeError) as error:  # too many files, processes or threads
            self._end = f"could not be started: {error}"

    def _joined(self, place: str | None) -> "Connection[Any, Any] | None":
        """A connection to the process that sends for another one, None where it cannot be reached."""
        if place is None:
            return None
        try:
            if not _is_private(Path(place).parent):
                return None
            connection: Connection[Any, Any] = Client(place, "AF_UNIX")
        except OSError:  # on another machine, or no more
            return None
        self.place = place
        return connection

    def _own(self) -> "Connection[Any, Any]":
        """A connection to a process that is started for us."""
        self.place = str(Path(mkdtemp(prefix="microgpt-"), "sending"))
        ours, theirs = Pipe()
        with theirs, ExitStack() as opened:
            said = opened.enter_context(TemporaryFile())
            self._child = start_module(
                "microgpt.tracking.sending",
                theirs,
                self.place,
                env=os.environ,
                stdout=DEVNULL,  # who reads our output must not wait for another process
                stderr=said,
            )
            self._said = said
            opened.pop_all()  # it is read when the process has ended
        return ours

    @property
    def ended(self) -> bool:
        """Whether it is no more."""
        return bool(self._end) or (self._child is not None and self._child.poll() is not None)

    @classmethod
    def beside(cls) -> "SendingProcess":
        """The one that sends for this process, started if need be."""
        with cls._one:
            if cls._beside is None or cls._beside.ended:
                cls._beside = cls(cls._offered)
            return cls._beside

    @classmethod
    def offer(cls, place: str | None) -> None:
        """Where a process is that may send for this one, too."""
        cls._offered = place

    @classmethod
    def address(cls) -> str | None:
        """What to offer to other processes: where the one is that sends for this one, if there is any."""
        return cls._beside.place if cls._beside and not cls._beside.ended else None

    @classmethod
    def flush(cls, patience: float) -> None:
        """Send all that this process has under way, in so many seconds. Raises TimeoutError, Trouble.

        What another process sends for this one is that one's to wait for.
        """
        if cls._beside is not None and cls._beside._child is not None:
            cls._beside.ask("flush").result(patience)

    def ask(self, question: Question, *words: Any) -> "Future[Any]":
        """Call a method of its `Service`. The answer may raise Trouble."""
        answer: Future[Any] = Future()
        with self._writing:
            number = next(self._numbers)
            self._answers[number] = answer
            if not self._end:
                with suppress(OSError):  # the listener will see that it has ended
                    self._connection.send((number, question, words))
        if self._end:
            self._give_up()
        return answer

    def _listen(self) -> None:
        """Take the answers; never wait for `_writing`, whose holder may wait for us to read."""
        with suppress(EOFError, OSError):
            while True:
                number, said, problem = self._connection.recv()
                answer = self._answers.pop(number)
                if problem:
                    answer.set_exception(Trouble(problem))
                else:
                    answer.set_result(said)
        code = 0
        if self._child:
            code = self._child.wait()
            rmtree(Path(self.place).parent, ignore_errors=True)  # it may have been killed
        self._end = f"was killed (signal {-code})" if code < 0 else f"ended (exit code {code})"
        self._end += self._last_line()
        self._give_up()

    def _last_line(self) -> str:
        """The last line that it complained of, if there is any."""
        if self._said is None:
            return ""
        with self._said as file:
            file.seek(0)
            lines = [line.strip() for line in file.read().decode(errors="replace").split("\n")]
        return next((f": {blackened(line)}" for line in reversed(lines) if line), "")

    def _give_up(self) -> None:
        with suppress(KeyError):  # another thread does the same
            while self._answers:
                _, answer = self._answers.popitem()
                answer.set_exception(Trouble(f"the process that sends {self._end}"))


def _is_private(folder: Path) -> bool:
    """Whether a folder is one of `mkdtemp` of this user: what answers in it is trusted with objects."""
    found = os.lstat(folder)
    mine = S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return mine and not found.st_mode & (S_IRWXG | S_IRWXO)
