"""The jobs of a sweep on a Dask cluster that others started."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any

from distributed import Client, KilledWorker, as_completed, wait
from distributed import Future as Remote

from microgpt.console import out
from microgpt.signals import Interrupted, interruptible
from microgpt.sweep.serve import PATIENCE
from microgpt.sweep.worker import STOPPING, Work, perform, stop
from microgpt.terminal import ConfigError, complain
from microgpt.tracking import SendingProcess

POLL = 0.1  # seconds between two looks at the tasks
CONNECT = 10.0  # seconds for the scheduler to answer
OPEN = (
    "who can reach this address can run programs as the owner of its workers, and of this sweep; "
    "with tls:// they need a key (docs/cluster.md)"
)


def run_on(address: str, tasks: Sequence[Work], signals: list[int]) -> list[Any]:
    """As `Pool.run`, on a Dask cluster. Raises ConfigError."""
    with connected(address) as client, interruptible(signals):
        try:
            results = follow(client, tasks, signals)
        except CancelledError as error:  # by the client, when it has lost the scheduler
            problem = "the scheduler is gone; the same command goes on with what is left"
            raise ConfigError(f"hydra.launcher.address={address}: {problem}") from error
        if not signals:
            flush(client)
    return results


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client for the time of the block. Raises ConfigError."""
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if is_open(address):
        complain(f"hydra.launcher.address={address}: {OPEN}")
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError, TypeError) as error:
        problem = f"no Dask scheduler answers there ({error})"
        raise ConfigError(f"hydra.launcher.address={address}: {problem}") from error
    with client:
        yield client


def is_open(address: str) -> bool:
    """Whether others than this machine's users can reach an address, and need no keys."""
    scheme, _, place = address.rpartition("://")
    host = place.rpartition(":")[0].strip("[]")
    if scheme not in ("", "tcp", "ws", "ucx"):  # with keys, or unknown
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def follow(client: Client, tasks: Sequence[Work], signals: list[int]) -> list[Any]:
    """Waits for all tasks; an interrupt ends those under way, and the others do not begin.

    What the cluster keeps of a task is let go as soon as it is over.
    """
    keys = {f"job-{task.number}-{task.launch}": task for task in tasks}
    left: dict[str, Remote] = {key: client.submit(perform, keys[key], key=key) for key in keys}
    over = as_completed(left.values())
    results: dict[str, Any] = {}
    told = False
    while left:
        time.sleep(POLL)
        for future in over.next_batch(block=False):
            if left.pop(future.key, None):  # an interrupt has not forgotten it
                results[future.key] = result_of(keys[future.key], future)
                future.release()
        if signals:
            if not all(task.stoppable for task in tasks):
                raise Interrupted(signals[0])
            if not told:
                out.print(STOPPING)
                told = True
            # Again and again: a worker may have come in late, or its training may not have begun.
            begun = set(client.run(stop, tasks[0].launch, on_error="ignore").values())
            waiting = [key for key in left if keys[key].number not in begun]
            client.cancel([left.pop(key) for key in waiting])  # a paused worker would keep them
    return [results.get(key) for key in keys]


def result_of(task: Work, future: Remote) -> Any:
    """What a task returned that is over, or what it says if its processes died."""
    error = future.exception()
    if error is None:
        return future.result()
    died = isinstance(error, KilledWorker)
    return task.lost("its processes were killed" if died else f"{type(error).__name__}: {error}")


def flush(client: Client) -> None:
    """Lets the workers send what they still have for the store."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    names = [name for name, facts in workers.items() if facts["status"] == "running"]
    sent = [
        client.submit(SendingProcess.flush, PATIENCE, workers=[name], pure=False) for name in names
    ]
    with suppress(
        TimeoutError, CancelledError
    ):  # a worker may die, or have other work: `catch_up` sends
        wait(sent, timeout=2 * PATIENCE)
