"""The process that sends what folders get to stores, beside those that work.

`python -m microgpt.tracking.sending FD PLACE` is started by `process`, which asks through the socket FD;
other processes ask through one at PLACE. It lives as long as any of them does, and then until what there
was to send is sent, or half a minute more: so the store learns of a run that was killed.
"""

import gc
import os
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from threading import Condition, Lock, Thread
from time import monotonic, sleep
from typing import Any

from microgpt.run.sweep import SweepFolder
from microgpt.tracking.sender import Sender, Sending
from microgpt.tracking.store import imported
from microgpt.tracking.sweep import SweepProjection
from microgpt.tracking.sync import Folder, Store

LETTING_GO = 0.2  # seconds in which a process that ends lets go of its folders
LAST = 30.0  # seconds for what is left to send then
# What MLflow imports for data frames alone: a fifth of its time, and 86 MB.
FRAMES = ("numpy", "pandas", "pyarrow")


class Service:
    """What another process may ask for. A sweep is known by its folder.

    Who sends to a store, `senders`, may be shared between services; what is sent for one is its own.
    """

    def __init__(self, senders: dict[str, Sender] | None = None) -> None:
        self._senders: dict[str, Sender] = {} if senders is None else senders
        self._sweeps: dict[Path, Sending] = {}
        self._own: list[Sending] = []

    def add(self, uri: str, outputs: Path, experiment: str, folder: Folder) -> None:
        """Send what `folder` has, and gets."""
        sender = self._senders.setdefault(uri, Sender(Store(uri, outputs)))
        sending = sender.add(Sending(sender.store, folder, experiment))
        if isinstance(folder, SweepFolder):
            self._sweeps[folder.path] = sending
        self._own = [*dict.fromkeys([*self._under_way(), sending])]

    def stored(self, sweep: Path) -> dict[str, tuple[str, str]]:
        """The runs that the store has of a sweep: their id -> their folder's name, their status."""
        projection = self._met(sweep)
        return projection.stored() if projection else {}

    def elsewhere(self, sweep: Path) -> dict[str, int]:
        """How many jobs of a sweep are under way in other folders, by machine and path."""
        projection = self._met(sweep)
        return projection.elsewhere() if projection else {}

    def _met(self, sweep: Path) -> SweepProjection | None:
        """A sweep in its store; None where the store fails."""
        sending = self._sweeps[sweep]
        sending.met.wait()
        projection = sending.projection
        return projection if isinstance(projection, SweepProjection) else None

    def home(self, sweep: Path) -> str | None:
        """The id of the experiment that holds a sweep; None if the store has not been met."""
        projection = self._sweeps[sweep].projection
        return projection.experiment if isinstance(projection, SweepProjection) else None

    def flush(self, uri: str | None = None) -> str | None:
        """Send all that goes to a store, or to any, a last time. Returns what went wrong, if it did."""
        sendings = [each for each in self._under_way() if uri in (None, each.store.uri)]
        for sending in sendings:
            sending.last.set()
        self._wake()
        for sending in sendings:
            sending.over.wait()
        return next((each.problem for each in sendings if each.problem), None)

    def left(self) -> int:
        """How many folders are on their way."""
        return len(self._under_way())

    def end(self, heir: "Service | None" = None) -> None:
        """The other process is no more: send what is left, of folders that nobody goes on with.

        The process of the `heir` may wait for it, too.
        """
        sleep(LETTING_GO)
        deadline = monotonic() + LAST
        left = self._under_way()
        for sending in left:
            sending.ended.set()
        if heir:
            heir._own = [*dict.fromkeys([*heir._under_way(), *left])]
        self._wake()
        for sending in left:
            sending.over.wait(max(0.0, deadline - monotonic()))

    def _under_way(self) -> list[Sending]:
        return [each for each in self._own if not each.over.is_set()]

    def _wake(self) -> None:
        for sender in list(self._senders.values()):
            sender.wake()


def serve(connection: "Connection[Any, Any]", service: Service) -> None:
    """Answer what is asked, until nobody is there to ask."""
    one = Lock()

    def answer(number: int, question: str, words: tuple[Any, ...]) -> None:
        said, problem = None, None
        try:
            said = getattr(service, question)(*words)
        except Exception as error:  # whatever a store may raise
            if question == "add":  # no answer is waited for, and the folder would be forgotten
                raise
            problem = f"{type(error).__name__}: {error}"
        with one, suppress(OSError):  # nobody is there any more
            connection.send((number, said, problem))

    while True:
        try:
            asked = connection.recv()
        except (EOFError, OSError):
            return
        if asked[1] == "add":  # before what is asked about it
            answer(*asked)
        else:  # which may take as long as the store does
            Thread(target=answer, args=asked, daemon=True).start()


class Guests:
    """Other processes than the first, each served in a thread of its own."""

    def __init__(self, place: str, senders: dict[str, Sender], first: Service) -> None:
        self._place, self._senders, self._first = place, senders, first
        self._here = 0
        self._changed = Condition()
        with suppress(OSError):  # no place for a socket: nobody will come
            Thread(target=self._receive, args=[Listener(place, "AF_UNIX")], daemon=True).start()

    def _receive(self, listener: Listener) -> None:
        while True:
            with suppress(OSError, EOFError):  # it has gone already
                connection = listener.accept()
                self._count(1)
                Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: "Connection[Any, Any]") -> None:
        service = Service(self._senders)
        try:
            serve(connection, service)
            service.end(self._first)
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._here += change
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until all have gone; then nobody comes any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._here)
        shutil.rmtree(Path(self._place).parent, ignore_errors=True)


def failed(error: BaseException | None) -> None:
    """Say what nobody has foreseen, and end: who asked us learns of it, and starts another."""
    traceback.print_exception(error)
    sys.stderr.flush()
    os._exit(1)


def _import() -> None:
    """Import MLflow without FRAMES, which others may import then."""
    imported()
    for name in FRAMES:
        del sys.modules[name]


def main() -> None:
    """Serve the process that started this one, and its guests."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # who stops all processes of a job means the other
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # until MLflow is imported, whose objects stay: a sixth of the time
    # While the work begins. An import of what is None fails, and MLflow goes on without.
    sys.modules.update(dict.fromkeys(FRAMES))  # type: ignore[arg-type]
    Thread(target=_import, daemon=True).start()
    senders: dict[str, Sender] = {}
    service = Service(senders)
    guests = Guests(sys.argv[2], senders, service)
    threading.excepthook = lambda args: failed(args.exc_value)
    try:
        serve(Connection(int(sys.argv[1])), service)
        service.end()
        guests.wait()
    except BaseException as error:
        failed(error)
    os._exit(0)  # Python would take seconds to put MLflow away


if __name__ == "__main__":
    main()
