"""Signal handlers that are in place for the time of a block."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]
STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Handler, numbers: Sequence[int] = STOPPING) -> Iterator[None]:
    """`handler` gets the signals `numbers`; afterwards the handlers are those from before.

    Python lets only the main thread set handlers: in another thread nothing changes.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


@contextmanager
def interruptible(
    caught: list[int], interrupt: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """SIGINT and SIGTERM go into `caught` and call `interrupt`; the second raises KeyboardInterrupt."""

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        interrupt()

    with handled(handle):
        yield
