"""An hour of a sweep whose workers are killed at random: no process that lives on grows.

MICROGPT_SOAK_MINUTES sets another length.
"""

import os
import random
import signal
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from tests.faults.conftest import Noted
from tests.faults.sweep_memory import MORE
from tests.faults.whole import begin, check_figures, ended, family_of, module_of
from tests.running import store, sync_here, wait_until

MINUTES = float(os.environ.get("MICROGPT_SOAK_MINUTES", 60))
JOBS = int(MINUTES * 200)  # more than can be done: what an end costs is another test's
# Of seconds: most kills are in the middle of one, and the store keeps up.
WORDS = ["trainer.num_steps=40000", "trainer.log_every=4000", "trainer.eval_every=20000"]
WORDS += ["trainer.checkpoint_every=5000", "hydra.launcher.workers=2"]
WARM = min(200, int(MINUTES * 5))  # jobs after which nothing may grow
BETWEEN = 2.0, 20.0  # seconds from one kill to the next
QUIET = "import os, sys; sys.stdout = open(os.devnull, 'w'); "  # nobody reads it for an hour
CHECKED = 100  # runs whose figures are compared, of some thousand


class Watched:
    """The resident memory of the processes that live on, and how often a worker was killed."""

    def __init__(self, launcher: int, outputs: Path) -> None:
        self.launcher, self.outputs = launcher, outputs
        self.warm: dict[str, int] = {}
        self.most: dict[str, int] = defaultdict(int)
        self.kills = 0

    def look(self) -> None:
        """Notes the memory, once the sweep is warm."""
        if len(os.listdir(self.outputs / "runs")) < WARM:
            return
        for process in family_of(self.outputs):
            kind = "launcher" if process.pid == self.launcher else module_of(process)
            try:
                size = process.memory_info().rss
            except psutil.Error:
                continue
            if process.pid == self.launcher or kind == "sending":
                self.warm.setdefault(kind, size)
            if not kind:  # a shell's, or one that is just becoming another
                continue
            if kind != "serve" or time.time() - process.create_time() > 5:
                self.most[kind] = max(self.most[kind], size)

    def kill(self, rng: random.Random) -> None:
        """kill -9 of a worker."""
        workers = [each for each in family_of(self.outputs) if module_of(each) == "serve"]
        if workers:
            rng.choice(workers).kill()
            self.kills += 1


@pytest.mark.soak
def test_an_hour_of_random_kills(outputs: Path, noted: Noted) -> None:
    rng = random.Random(0)
    words = ["train", "-m", *WORDS, f"seed=range({JOBS})", "progress=false"]
    process = begin(outputs, *words, first=QUIET)
    watched = Watched(process.pid, outputs)
    while not (
        outputs / "runs"
    ).is_dir():  # so many jobs take a minute to plan, on a busy machine ten
        assert process.poll() is None
        time.sleep(1)
    end = time.monotonic() + 60 * MINUTES
    next_kill = 0.0
    while time.monotonic() < end:
        assert process.poll() is None
        watched.look()
        if time.monotonic() > next_kill:
            watched.kill(rng)
            next_kill = time.monotonic() + rng.uniform(*BETWEEN)
        time.sleep(1)
    process.send_signal(signal.SIGINT)
    ended(process, 130, patience=3600)  # the store has yet to get what was done last
    wait_until(lambda: not family_of(outputs))
    assert watched.warm, f"there were never {WARM} runs"
    grown = {kind: watched.most[kind] / size for kind, size in watched.warm.items()}
    assert max(grown.values()) <= MORE, (watched.warm, watched.most)
    done = [run for run in all_runs(outputs) if run.status == FINISHED]
    assert len(done) < JOBS
    sync_here(outputs)
    for run in rng.sample(done, min(CHECKED, len(done))):
        check_figures(store(outputs), run)
    sizes = ", ".join(f"{kind} {size / 1e6:.0f} MB" for kind, size in sorted(watched.most.items()))
    factors = ", ".join(f"{kind} {factor:.2f}" for kind, factor in sorted(grown.items()))
    seen = f"{len(done):,} jobs done in {MINUTES:g} minutes; at most {sizes}; "
    seen += f"the most after job {WARM} over what it was there: {factors}"
    noted("kill -9 of a worker of one long sweep", watched.kills, seen)
