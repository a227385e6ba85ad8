"""Signal handlers for the duration of a block."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, NoReturn

Handler = Callable[[int, FrameType | None], Any]
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM has come; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def interrupt(number: int, _: FrameType | None) -> NoReturn:
    """A handler that raises Interrupted."""
    raise Interrupted(number)


@contextmanager
def handled(handler: Handler, numbers: Sequence[int] = STOPPING) -> Iterator[None]:
    """Installs `handler` for the signals `numbers`, and restores the previous handlers afterwards.

    Does nothing outside the main thread, since Python lets no other thread set handlers.
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
    """Appends SIGINT and SIGTERM to `caught` and calls `interrupt`; the second raises KeyboardInterrupt."""

    def handle(number: int, _: FrameType | None) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        interrupt()

    with handled(handle):
        yield
