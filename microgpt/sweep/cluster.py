"""Tasks on a Dask cluster: one of this machine's own, or any by its address."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import dask
from dask.utils import parse_bytes
from distributed import Client, KilledWorker, LocalCluster, wait
from distributed import Future as Remote

from microgpt.build import call
from microgpt.console import out
from microgpt.core.check import integer
from microgpt.signals import interruptible
from microgpt.sweep.worker import Task, lost, perform, stop
from microgpt.terminal import RUN_FAILED, ConfigError
from microgpt.tracking import SendingProcess

POLL = 0.1  # seconds between two looks at the tasks
PATIENCE = 30.0  # seconds that the end waits for what the workers still send to the store
CONNECT = 10.0  # seconds for the scheduler to answer
SETTINGS = {
    "logging": {"distributed": "critical"},  # of the workers
    "distributed.worker.profile.enabled": False,  # it would keep what it sees, 0.3 MB a second
    "distributed.scheduler.allowed-failures": 1_000_000,  # `perform` counts
    # A worker that died is started again; on a busy machine that takes longer than the usual 15 s, after
    # which nobody would start one any more, and the sweep would wait for ever.
    "distributed.deploy.lost-worker-timeout": "1 day",
}
STOPPING = "stopping after the steps under way; once more Ctrl-C ends at once"


class OwnCluster:
    """Workers on this machine, which come up beside what there is to do before they are needed."""

    def __init__(self, workers: int | None, memory_limit: str) -> None:
        dask.config.set(SETTINGS)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        thread = ThreadPoolExecutor(1)
        self._started: Future[LocalCluster] = thread.submit(
            LocalCluster,
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            preload=[perform.__module__],
        )
        thread.shutdown(wait=False)

    @property
    def cluster(self) -> LocalCluster:
        """Dask's own object, once it is up."""
        return self._started.result()

    def close(self) -> None:
        """End the workers, if they came up."""
        if self._started.exception() is None:
            self.cluster.close()


def run_all(tasks: Sequence[Task], where: str | OwnCluster) -> list[int | None]:
    """The exit code of each task; None for those that an interrupt ended or kept from beginning.

    where  workers of our own, which are ended, or the address of a cluster. Raises ConfigError
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(SETTINGS), connected(where) as client:
        signals: list[int] = []
        with interruptible(signals):
            futures = [
                client.submit(perform, task, key=f"job-{task.number}-{task.launch}")
                for task in tasks
            ]
            codes = follow(client, tasks, futures, signals)
        names = client.scheduler_info(n_workers=-1)["workers"]
        sent = [
            client.submit(SendingProcess.flush, PATIENCE, workers=[name], pure=False)
            for name in names
        ]
        with suppress(TimeoutError):  # a worker may die, or have other work: `catch_up` sends
            wait(sent, timeout=2 * PATIENCE)
    return codes


def check(workers: int | None, memory_limit: str) -> None:
    """Refuse workers that cannot be. Raises ConfigError."""
    if workers is not None:
        call("hydra.launcher", integer, "workers", workers, 1)
    try:
        sized = memory_limit == "auto" or parse_bytes(memory_limit) > 0
    except ValueError:
        sized = False
    if not sized:
        allowed = "must be a size, as 2GB, or auto"
        raise ConfigError(f"hydra.launcher.memory_limit={memory_limit}: {allowed}")


@contextmanager
def connected(where: str | OwnCluster) -> Iterator[Client]:
    """A client for the time of the block. Raises ConfigError."""
    if isinstance(where, OwnCluster):
        with where.cluster as cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(where, timeout=CONNECT)
    except (OSError, ValueError, TypeError) as error:
        problem = f"no Dask scheduler answers there ({error})"
        raise ConfigError(f"hydra.launcher.address={where}: {problem}") from error
    with client:
        yield client


def follow(
    client: Client, tasks: Sequence[Task], futures: Sequence[Remote], signals: list[int]
) -> list[int | None]:
    """Wait for all tasks; an interrupt ends those under way, and the others do not begin.

    What the cluster keeps of a task is let go as soon as it is over.
    """
    codes: dict[int, int | None] = {}
    left = dict(enumerate(futures))
    told = False
    while left:
        time.sleep(POLL)
        if signals:
            if not told:
                out.print(STOPPING)
                told = True
            client.run(stop, tasks[0].launch)  # again and again: a worker may have come in late
        for i in [i for i, future in left.items() if future.done()]:
            future = left.pop(i)
            codes[i] = code_of(tasks[i], future)
            future.release()
    return [codes[i] for i in range(len(tasks))]


def code_of(task: Task, future: Remote) -> int | None:
    """The exit code of a task that is over; one whose processes died is recorded as failed."""
    error = future.exception()
    if error is None:
        code: int | None = future.result()
        return code
    died = isinstance(error, KilledWorker)  # on a cluster that has its own count
    lost(task, "its processes were killed" if died else f"{type(error).__name__}: {error}")
    return RUN_FAILED
