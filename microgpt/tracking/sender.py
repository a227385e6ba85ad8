"""What is on its way to a store, and the thread that sends it."""

import gc
from collections import deque
from functools import lru_cache
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from time import monotonic

from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED, RUNNING
from microgpt.tracking.machine import Machine, processors
from microgpt.tracking.patience import Patience
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import one_sends, told
from microgpt.tracking.sweep import SweepProjection
from microgpt.tracking.sync import Folder, Store

PAUSE = 1.0  # seconds between two updates


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
    """One folder on its way to a store. Thousands may wait: each has little."""

    __slots__ = (
        *("store", "folder", "experiment", "projection", "problem"),
        *("met", "ended", "last", "over", "_added", "_before", "_machine"),
    )

    def __init__(self, store: Store, folder: Folder, experiment: str) -> None:
        self.store, self.folder, self.experiment = store, folder, experiment
        self._added = monotonic()
        self._before = _processors(int(self._added))
        self._machine: Machine | None = None  # goes on counting where a store failed once
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
            if isinstance(self.projection, Projection):
                self._machine = self._machine or Machine(self._before)
                self.projection.machine = self._machine
        self.met.set()
        self.projection.update()
        return self.projection.complete


@lru_cache(maxsize=1)
def _processors(second: int) -> dict[str, float]:
    """A reading of the processors: of all that is added within a second, that of the first."""
    return processors()


class Sender:
    """The thread that sends to one store; it lives while there is something to send."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._woken = Event()
        self._working = False  # whether its thread lives
        self._lasting = False  # whether what MLflow has imported is known to stay
        self._lock = Lock()
        self._sendings: dict[Sending, Patience] = {}
        self._latest: dict[Path, Sending] = {}  # by the path of the folder
        self._patience = Patience()  # with the store

    def add(self, sending: Sending) -> Sending:
        """Send what its folder has, and gets; returns who does that.

        It is another if the run is finished and on its way already: to send it twice takes twice as long.
        One that is not may change hands, so that each sends for himself.
        """
        path = sending.folder.path
        with self._lock:
            known = self._latest.get(path)
            if known and not known.over.is_set() and known.folder.status == FINISHED:
                return known
            if not self._working:
                self._working = True
                Thread(target=self._work, daemon=True).start()
            self._sendings[sending] = Patience()
            self._latest[path] = sending
        if not self._patience.problem:
            self.wake()
        return sending

    def _forget(self, sending: Sending) -> None:
        """Let go of what is over."""
        del self._sendings[sending]
        if self._latest.get(sending.folder.path) is sending:
            del self._latest[sending.folder.path]

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
                    self._forget(over)
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
                    self._forget(sending)
            if sending.problem and (problem := self.store.silence()):
                return problem
        return None
