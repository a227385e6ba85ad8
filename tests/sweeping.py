"""Small sweeps for the tests, as processes of their own, and what they left."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import RUNNING
from microgpt.run.sweep import SweepFolder
from tests.running import COMMAND, NAMES, REPOSITORY, figures, stored, wait_until
from tests.schedules import GATE

SMALL = (
    *("train", "-m", f"data.path={NAMES}", "model.n_embd=4", "model.n_head=2"),
    *("model.block_size=4", "trainer.log_every=5", "trainer.eval_every=20"),
    *("trainer.eval_documents=5", "sampling.num_samples=2"),
)
HELD = ("schedule=constant", "schedule._target_=tests.schedules.Held")
TWO = "hydra.launcher.workers=2"


def environment(outputs: Path) -> dict[str, str]:
    """Of a sweep's processes; beside the outputs lies the gate of runs that are held."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    paths = {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)}
    return own | paths | {GATE: str(gate(outputs)), "COLUMNS": "200"}


def gate(outputs: Path) -> Path:
    """While this file is there, runs are held."""
    return outputs.with_name(f"{outputs.name}.gate")


def command(*words: str) -> list[str]:
    """A sweep as a command line."""
    return [sys.executable, "-c", COMMAND, *SMALL, *words]


def begin(outputs: Path, *words: str) -> "subprocess.Popen[str]":
    """A sweep with its workers, in a process group of its own, as a shell begins it."""
    return subprocess.Popen(
        command(*words),
        env=environment(outputs),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: "subprocess.Popen[str]", code: int = 0) -> tuple[str, str]:
    """What a sweep said on standard output and error; it must end with `code`."""
    try:
        said = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code, said
    return said


def sweep(outputs: Path, *words: str, code: int = 0) -> tuple[str, str]:
    """A sweep from its beginning to its end."""
    return ended(begin(outputs, *words), code)


def only_sweep(outputs: Path) -> SweepFolder:
    """The one sweep that there is."""
    (file,) = outputs.glob("sweeps/*/sweep.json")
    return SweepFolder(file.parent)


def runs(outputs: Path) -> dict[str, RunFolder]:
    """The runs that there are, by name."""
    return {run.info["name"]: run for run in all_runs(outputs)}


def under_way(outputs: Path, step: int = 0) -> list[RunFolder]:
    """The runs that a process is at, and that have recorded `step`."""
    found = [run for run in all_runs(outputs) if run.status == RUNNING]
    return [run for run in found if any(row["step"] >= step for row in run.metrics())]


def all_figures(outputs: Path) -> dict[str, Any]:
    """All that the runs of a sweep must give again, by the names of their folders."""
    return {run.path.name: figures(run) for run in all_runs(outputs)}


def family(outputs: Path) -> tuple[Run, dict[str, Run]]:
    """The one sweep in the store, and the runs below it by name."""
    there = stored(outputs)
    (parent,) = [run for run in there if "sweep.id" in run.data.tags]
    children = [run for run in there if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} <= {parent.info.run_id}
    found = {run.info.run_name: run for run in children}
    assert len(found) == len(children), "two runs of one name"
    return parent, found


def statuses(children: dict[str, Run]) -> dict[str, str]:
    return {name: run.info.status for name, run in children.items()}


def processes(session: int) -> dict[int, str]:
    """The command lines of the processes that a sweep has left, as its session has them."""
    left = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ProcessLookupError):  # it is gone meanwhile
            state, _, _, its_session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                left[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
    return left


def nothing_is_left_of(process: "subprocess.Popen[str]") -> None:
    """No process of a sweep stays behind."""
    wait_until(lambda: not processes(process.pid))


def holder(run: RunFolder, candidates: Sequence[int]) -> int:
    """The process, one of several, that has a run's lock file open."""
    lock = str(run.path / ".lock")
    for number in candidates:
        with suppress(OSError):
            if any(os.readlink(link) == lock for link in Path(f"/proc/{number}/fd").iterdir()):
                return number
    raise AssertionError(f"no process is at {run.path}")
