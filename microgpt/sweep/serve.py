"""A worker process on the launcher's machine: `python -m microgpt.sweep.serve FD`, started by `pool`.

It gets tasks, launches to stop and END through the pipe FD, and answers each task with what it returns
and a problem. Nothing listens on a network. When the launcher dies, the pipe ends, and so does the worker.
"""

import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

from microgpt.one_run import described
from microgpt.signals import STOPPING
from microgpt.sweep.worker import Work, perform, stop
from microgpt.tracking import SendingProcess
from microgpt.tracking.process import Trouble

END = None
PATIENCE = 30.0  # seconds that the end waits for what is still to be sent to the store
Answer: TypeAlias = tuple[Any, str]  # what the task returns; what prevented it, if anything did


def answer(task: Work) -> Answer:
    """Does a task."""
    try:
        return perform(task), ""
    except BaseException as error:  # also SystemExit, of a user's class: the others go on
        return None, described(error)


def work(connection: "Connection[Any, Any]", tasks: "SimpleQueue[Work | None]") -> None:
    """Does the tasks, one after the other, until END."""
    while (task := tasks.get()) is not END:
        with suppress(OSError):  # the launcher died: `main` learns of it
            connection.send(answer(task))
    with suppress(TimeoutError, Trouble):  # a store that is down: `catch_up` sends
        SendingProcess.flush(PATIENCE)
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    """Reads the pipe, while a thread works."""
    for number in STOPPING:  # who stops all processes of a sweep means the launcher, which tells us
        signal.signal(number, signal.SIG_IGN)
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    tasks: SimpleQueue[Work | None] = SimpleQueue()
    Thread(target=work, args=(connection, tasks), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            match connection.recv():
                case str(launch):
                    stop(launch)
                case task:
                    tasks.put(task)
    os._exit(1)  # at once: another launcher may be waiting for the folder of the job under way


if __name__ == "__main__":
    main()
