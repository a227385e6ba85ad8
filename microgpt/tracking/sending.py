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
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from time import monotonic, sleep
from typing import Any

from microgpt.run.folder import RunFolder
from microgpt.run.record import RUNNING
from microgpt.run.sweep import SweepFolder
from microgpt.tracking.patience import Patience
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import imported, one_sends, told
from microgpt.tracking.sweep import SweepProjection
from microgpt.tracking.sync import Folder, Store

PAUSE = 1.0  # seconds between two updates
LETTING_GO = 0.2  # seconds in which a process that ends lets go of its folders
LAST = 30.0  # seconds for what is left to send then


class Flag:
    """Is set once, and can be waited for.

    All share one condition: thousands of short runs may wait to be sent, and each has four flags.
    """

    __slots__ = ("_is_set",)
    _changed = Condition()

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake who waits."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it is set, or so long."""
        with self._changed:
            self._changed.wait_for(self.is_set, seconds)


class Sending:
    """One folder on its way to a store."""

    def __init__(self, store: Store, folder: Folder, experiment: str) -> None:
        self.store, self.folder, self.experiment = store, folder, experiment
        self._added = monotonic()
        self.projection: Projection | SweepProjection | None = None
        self.problem: str | None = None
        self.met = Flag()  # the store has the folder's run, or has failed to
        self.ended = Flag()  # our work on it: whoever goes on with it sends for himself
        self.last = Flag()  # what is sent from now on is the last that is waited for
        self.over = Flag()  # all is there, or the last could not be sent, or others send

    def go_on(self) -> None:
        """Send what there is."""
        last, over = self.last.is_set(), False
        problem: str | None = None
        try:
            if not self._is_early():
                with one_sends(self.folder):
                    over = not self._is_ours() or self._send()
        except Exception as error:  # whatever a store may raise: the work goes on
            problem = told(self.store.uri, error)
        self.end_turn(problem, over or (last and problem is not None))

    def end_turn(self, problem: str | None, over: bool) -> None:
        """Note how a turn at sending ended, and whether it was the last."""
        self.problem = problem
        if problem or (over and isinstance(self.projection, Projection)):
            # It holds all that the store said of the run, and may be of a file that was rewound.
            self.projection = None
        self.met.set()
        if over:
            self.over.set()  # when all else is set: others wait for it

    def _is_early(self) -> bool:
        """Whether a run has just begun: one that is soon over is sent in a few calls, not in many."""
        new = self.projection is None and isinstance(self.folder, RunFolder)
        return new and monotonic() < self._added + PAUSE and self.folder.status == RUNNING

    def _is_ours(self) -> bool:
        """Whether nobody goes on with what we have ended."""
        if self.folder.status == RUNNING:
            return not self.ended.is_set()
        self.ended.set()
        return True

    def _send(self) -> bool:
        """Returns whether all is there."""
        if self.projection is None:
            self.projection = self.store.project(self.folder, self.experiment)
        self.met.set()
        self.projection.update()
        return self.projection.complete


class Sender:
    """The thread that sends to one store; it lives while there is something to send."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._woken = Event()
        self._working = False  # whether its thread lives
        self._lasting = False  # whether what MLflow has imported is known to stay
        self._lock = Lock()
        self._sendings: dict[Sending, Patience] = {}
        self._patience = Patience()  # with the store

    def add(self, sending: Sending) -> None:
        """Send what its folder has, and gets."""
        with self._lock:
            if not self._working:
                self._working = True
                Thread(target=self._work, daemon=True).start()
            self._sendings[sending] = Patience()
        if not self._patience.problem:
            self.wake()

    def wake(self) -> None:
        """Do not wait for the next update."""
        self._woken.set()

    def _work(self) -> None:
        while True:
            self._woken.clear()
            self._turn()
            if not self._lasting:
                gc.collect()
                gc.freeze()  # the collector would look through MLflow's objects again and again
                gc.enable()
                self._lasting = True
            with self._lock:
                for over in [each for each in self._sendings if each.over.is_set()]:
                    del self._sendings[over]
                self._working = bool(self._sendings)
                if not self._working:
                    return
            self._woken.wait(PAUSE)

    def _turn(self) -> None:
        """Send what there is. While the store does not answer, the first folder alone is tried."""
        with self._lock:
            sendings = deque(self._sendings.items())
        asked = any(sending.last.is_set() for sending, _ in sendings)
        if self._patience.is_due(asked):
            begun = monotonic()
            self._patience.note(self._sent(sendings), begun)
        if self._patience.problem:
            for sending, _ in sendings:
                if not sending.over.is_set():
                    sending.end_turn(self._patience.problem, sending.last.is_set())

    def _sent(self, sendings: deque[tuple[Sending, Patience]]) -> str | None:
        """Send what there is; returns what is wrong with the store, if anything is.

        What is left in `sendings` was not tried. What is over is let go at once, in a turn of thousands.
        """
        while sendings:
            sending, patience = sendings.popleft()
            if not patience.is_due(sending.last.is_set()):
                continue
            begun = monotonic()
            sending.go_on()
            patience.note(sending.problem, begun)
            if sending.over.is_set():
                with self._lock:
                    del self._sendings[sending]
            if sending.problem and (problem := self.store.silence()):
                return problem
        return None


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
        sending = Sending(sender.store, folder, experiment)
        if isinstance(folder, SweepFolder):
            self._sweeps[folder.path] = sending
        self._own = [*self._under_way(), sending]
        sender.add(sending)

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
            heir._own = [*heir._under_way(), *left]
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


def main() -> None:
    """Serve the process that started this one, and its guests."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # who stops all processes of a job means the other
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # until MLflow is imported, whose objects stay: a sixth of the time
    Thread(target=imported, daemon=True).start()  # while the work begins
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
