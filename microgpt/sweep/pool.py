"""Tasks in worker processes on this machine."""

from collections import Counter, deque
from collections.abc import Sequence
from multiprocessing.connection import wait
from time import monotonic
from typing import Any

from microgpt.console import out
from microgpt.signals import Interrupted, interruptible
from microgpt.sweep.process import Worker
from microgpt.sweep.serve import END, PATIENCE
from microgpt.sweep.worker import STOPPING, Work

POLL = 0.1  # seconds between two looks at the workers
LIVES = 3  # workers that may die of one job before it has failed


class Pool:
    """Workers, which come up beside the planning of the sweep, and the jobs that they have."""

    def __init__(self, workers: int, limit: int) -> None:
        """`limit` is the resident memory of a worker, in bytes, above which it is replaced."""
        self.count, self.limit = workers, limit
        self.workers = [Worker() for _ in range(workers)]

    def run(self, tasks: Sequence[Work], signals: list[int], more: bool = False) -> list[Any]:
        """What each task returns; None for those that an interrupt ended or kept from beginning.

        SIGINT and SIGTERM interrupt, and are appended to `signals`. At the end the workers end, too,
        unless there may be `more` tasks, in another call.
        """
        self.workers += [Worker() for _ in range(self.count - len(self.workers))]  # some died
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self.deaths: Counter[int] = Counter()
        self.results: dict[int, Any] = {}
        self.signals = signals
        stay = False
        try:
            with interruptible(self.signals):
                self._run()
                stay = more and not self.signals
                if not stay:
                    self._end()
        finally:  # at once, if it is the second Ctrl-C: the store would wait for what they train
            if not stay:
                self.close()
        return [self.results[i] for i in range(len(tasks))]

    def _run(self) -> None:
        while len(self.results) < len(self.tasks) and not self.signals:
            self._go_on()
        if self.signals:
            if not all(task.stoppable for task in self.tasks):
                raise Interrupted(self.signals[0])
            out.print(STOPPING)
            self.results |= dict.fromkeys(self.waiting)
            self.waiting.clear()
        while len(self.results) < len(self.tasks):
            for worker in self.workers:  # again and again: its training may not have begun
                worker.tell(self.tasks[0].launch)
            self._go_on()

    def _go_on(self) -> None:
        """Gives tasks to idle workers, takes answers, and replaces workers that died or are too large."""
        for worker in self.workers:
            if worker.task is None and self.waiting and not worker.fault:
                worker.task = self.waiting.popleft()
                worker.tell(self.tasks[worker.task])
        ready = wait([worker.pipe for worker in self.workers], POLL)
        for worker in list(self.workers):
            if worker.pipe in ready:
                self._hear(worker)
            if (size := worker.memory) > self.limit:
                worker.kill(f"had {size / 1e6:.0f} MB of at most {self.limit / 1e6:.0f}")

    def _hear(self, worker: Worker) -> None:
        """Takes an answer, or the end of a worker."""
        try:
            result, problem = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker, worker.bury())
            return
        assert worker.task is not None
        task = self.tasks[worker.task]
        self.results[worker.task] = task.lost(problem) if problem else result
        worker.task = None

    def _replace(self, worker: Worker, how: str) -> None:
        """Gives the task of a worker that has died to another, a new one."""
        self.workers.remove(worker)
        if worker.task is not None:
            self._try_again(worker.task, how)
        elif self.waiting:
            out.print(f"a worker {how}; another takes its place", markup=False)
        if self.waiting:
            self.workers.append(Worker())

    def _try_again(self, i: int, how: str) -> None:
        task = self.tasks[i]
        self.deaths[i] += 1
        if self.signals:
            self.results[i] = None
        elif self.deaths[i] < LIVES:
            out.print(f"{task.name}: its worker {how}; another goes on", markup=False)
            self.waiting.appendleft(i)
        else:
            self.results[i] = task.lost(f"{LIVES} workers died of it; the last {how}")

    def _end(self) -> None:
        """Lets the workers send what they still have for the store, and end."""
        deadline = monotonic() + PATIENCE
        for worker in self.workers:
            worker.tell(END)
        for worker in self.workers:
            worker.wait(max(0.0, deadline - monotonic()))

    def end(self) -> None:
        """Lets the workers end that wait for more."""
        self._end()
        self.close()

    def close(self) -> None:
        """Ends the workers that there still are."""
        while self.workers:
            self.workers.pop().bury()
