"""Schedules for runs that something shall happen to, as `schedule._target_` of `schedule=constant`."""

import os
import shutil
import time
from pathlib import Path
from typing import ClassVar

from microgpt.core.schedule.constant import Constant

GATE = "MICROGPT_TEST_GATE"  # in the environment: a file, and while it is there runs are held
HELD_FROM = 20  # the first step that is held


class Held(Constant):
    """Each step takes a while, as long as the gate is there."""

    seconds = 0.05  # a step

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        if step >= HELD_FROM and Path(os.environ[GATE]).exists():
            time.sleep(self.seconds)
        return super().__call__(lr, step, num_steps)


class Slow(Constant):
    """Each step takes a while, and no time of the processor."""

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        time.sleep(0.02)
        return super().__call__(lr, step, num_steps)


class Stuck(Held):
    """One step takes longer than any patience."""

    seconds = 300.0


class Raising(Constant):
    """A fault of the program, half way."""

    def decay(self, progress: float) -> float:
        if progress >= 0.5:
            raise LookupError("a fault\nin two lines")
        return 1.0


class Exhausted(Constant):
    """Python finds no memory for the first step."""

    def decay(self, progress: float) -> float:
        raise MemoryError


class Hungry(Constant):
    """Takes ever more memory, half way."""

    taken: tuple[bytes, ...] = ()

    def decay(self, progress: float) -> float:
        if progress >= 0.5:
            for _ in range(1000):
                self.taken += (os.urandom(1000) * 20_000,)
                time.sleep(0.05)
        return 1.0


class Growing(Constant):
    """Each job leaves 30 MB behind in its process."""

    left: ClassVar[list[bytes]] = []

    def decay(self, progress: float) -> float:
        if progress == 0:
            self.left.append(os.urandom(1000) * 30_000)
        return 1.0


class Deleting(Constant):
    """Deletes the folder that the gate names, half way."""

    def decay(self, progress: float) -> float:
        if progress >= 0.5:
            shutil.rmtree(os.environ[GATE], ignore_errors=True)
        return 1.0


class Absent(Constant):
    """Cannot be made as long as the gate is there: the run does not begin."""

    def __init__(self, **values: int) -> None:
        super().__init__(**values)
        if Path(os.environ[GATE]).exists():
            raise RuntimeError("nothing there yet")


class Unbuilt(Constant):
    """Takes for ever to be made, so that no run begins."""

    def __init__(self, **values: int) -> None:
        super().__init__(**values)
        time.sleep(300)
