"""Schedules for runs that something shall happen to, by `schedule=constant schedule._target_=...`."""

import os
import signal
import time
from pathlib import Path

from microgpt.core.schedule.constant import Constant

GATE = "MICROGPT_TEST_GATE"  # in the environment: a file, and while it is there runs are held
HELD_FROM = 20  # the step that is held first


class Held(Constant):
    """Each step takes a while, as long as the gate is there."""

    seconds = 0.05  # a step

    def __call__(self, lr: float, step: int, num_steps: int) -> float:
        gate = Path(os.environ[GATE])
        if step >= HELD_FROM and gate.exists():
            time.sleep(self.seconds)
        return super().__call__(lr, step, num_steps)


class Stuck(Held):
    """One step takes longer than any patience."""

    seconds = 300.0


class Raising(Constant):
    """A fault of the program."""

    def decay(self, progress: float) -> float:
        if progress >= 0.5:
            raise LookupError("a fault\nin two lines")
        return 1.0


class Exhausted(Constant):
    """Python finds no memory."""

    def decay(self, progress: float) -> float:
        raise MemoryError


class Deadly(Constant):
    """kill -9, whichever process it is in."""

    def decay(self, progress: float) -> float:
        if progress >= 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0


class Hungry(Constant):
    """Takes ever more memory."""

    def decay(self, progress: float) -> float:
        self.taken = [*getattr(self, "taken", []), bytearray(os.urandom(1000) * 20_000)]
        time.sleep(0.02)
        return 1.0
