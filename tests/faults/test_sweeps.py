"""kill -9 in a sweep, of the launcher, a worker, the process that sends, or all; sweeps at once."""

import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from microgpt.run.folder import all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.tracking import open_store
from tests.faults.conftest import Noted
from tests.faults.whole import (
    begin,
    check_equal,
    check_store,
    ended,
    family_of,
    kill,
    module_of,
)
from tests.running import TINY, figures, parents, sync_here, wait_until

JOBS = 24  # of half a second
TIMES = 25  # of each kind
SWEEP = ["train", "-m", *TINY, "trainer.num_steps=150", "trainer.checkpoint_every=30"]
SWEEP += ["trainer.eval_every=50", "hydra.launcher.workers=2", "progress=false"]
KINDS = {"worker": "serve", "sender": "sending"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The figures of the runs that nobody disturbed, by folder."""
    outputs = tmp_path_factory.mktemp("whole")
    ended(begin(outputs, *SWEEP, f"seed=range({JOBS})", "tracking=none"), 0)
    return {run.path.name: figures(run) for run in all_runs(outputs)}


def kill_one(kind: str, outputs: Path, rng: random.Random) -> bool:
    """kill -9 of a process of this kind, if there is any."""
    there = [each for each in family_of(outputs) if module_of(each) == KINDS[kind]]
    if not there:
        return False
    try:
        rng.choice(there).kill()
    except psutil.Error:
        return False
    return True


class Attacked:
    """Outputs in which a sweep is attacked, and begun again until its jobs are all done."""

    def __init__(self, outputs: Path, kind: str, rng: random.Random) -> None:
        open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
        self.outputs, self.kind, self.rng = outputs, kind, rng
        self.kills = self.starts = 0

    def run(self, times: int) -> None:
        """Attacks so often, or until the sweep has come to an end by itself."""
        over = False
        while self.kills < times and not over:
            self.starts += 1
            process = begin(self.outputs, *SWEEP, f"seed=range({JOBS})")
            over = self._attack(process, times)
        wait_until(lambda: not family_of(self.outputs))
        for _ in range(2):  # a job that three workers died of has failed, and is done again
            process = begin(self.outputs, *SWEEP, f"seed=range({JOBS})")
            ended(process, 0, 1)
        assert process.returncode == 0
        sync_here(self.outputs)

    def _attack(self, process: "subprocess.Popen[str]", times: int) -> bool:
        """Attacks a sweep; returns whether it came to an end by itself."""
        while self.kills < times:
            time.sleep(self.rng.uniform(0.2, 5))
            if process.poll() is not None:
                ended(process, 0, 1)
                return True
            if self.kind in KINDS:
                self.kills += kill_one(self.kind, self.outputs, self.rng)
            else:
                self.kills += kill(process, self.kind == "all", self.outputs)
                return False
        ended(process, 0, 1)
        return True


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["launcher", "all", *KINDS])
def test_kills_in_a_sweep(kind: str, tmp_path: Path, whole: dict[str, Any], noted: Noted) -> None:
    """`test_sweep_crash` has a short one."""
    rng, kills, starts, count, sweeps = random.Random(kind), 0, 0, 0, 0
    while kills < TIMES:
        outputs = tmp_path / str(sweeps)
        outputs.mkdir()
        attacked = Attacked(outputs, kind, rng)
        attacked.run(TIMES - kills)
        runs = all_runs(outputs)
        assert len(runs) == len([*(outputs / "runs").iterdir()]) == JOBS
        check_equal(runs, whole)
        count += check_store(outputs)
        (parent,) = parents(outputs)
        assert parent.info.status == "FINISHED"
        kills, starts, sweeps = kills + attacked.kills, starts + attacked.starts, sweeps + 1
    seen = f"{sweeps} sweeps of {JOBS} jobs, begun {starts} times; {count:,} figures"
    names = {"all": "of all processes", "launcher": "of the launcher", "worker": "of a worker"}
    what = names.get(kind, "of a process that sends")
    noted(f"kill -9 in a sweep, {what}", kills, seen)


@pytest.mark.soak
def test_three_sweeps_at_once(outputs: Path, noted: Noted) -> None:
    """They have jobs in common, and the outputs, and the store."""
    grids = ["range(0,12)", "range(6,18)", "range(3,15)"]
    processes = [begin(outputs, *SWEEP, f"seed={grid}") for grid in grids]
    for process in processes:
        ended(process, 0)
    assert len(all_runs(outputs)) == 18
    count = check_store(outputs)
    assert Counter(run.info.status for run in parents(outputs)) == {"FINISHED": 3}
    for sweep in all_sweeps(outputs):
        assert all(sweep.run(job).exists for job in sweep.jobs)
    noted(
        "three sweeps of one experiment at once, 6 to 9 of 12 jobs in common",
        1,
        f"{count:,} figures",
    )
