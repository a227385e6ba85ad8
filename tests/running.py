"""Tiny runs for the tests, in this process and in others, and what they left."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from hydra import compose, initialize_config_dir
from mlflow import MlflowClient
from mlflow.entities import Run

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.tracking import sync
from microgpt.tracking.machine import Machine
from microgpt.tracking.projection import Projection
from microgpt.tracking.sync import Store
from microgpt.train import train
from microgpt.trust import Trust

REPOSITORY = Path(__file__).parent.parent
NAMES = REPOSITORY / "tests/golden/names_tiny.txt"
TINY = [
    f"data.path={NAMES}",
    "engine=vector",  # slow enough to be killed in mid-run
    "model.n_embd=8",
    "model.n_head=2",
    "model.block_size=9",
    "trainer.log_every=1",
    "trainer.eval_every=10",
    "sampling.num_samples=3",
]
SHORT = ["trainer.num_steps=12", "trainer.checkpoint_every=5"]
# A step takes 20 ms, and no time of the processor: for runs that something shall happen to.
TRUST = Trust(packages=("tests",))  # of resumes: runs have the schedules of tests/schedules.py
SLOWLY = ["schedule=constant", "schedule._target_=tests.schedules.Slow"]
FACTS: dict[str, Any] = {  # of a run that nobody trained
    **dict.fromkeys(("name", "signature", "source"), "none"),
    **{key: {} for key in ("git", "fingerprint", "data")},
    "begun": 0.0,
    "num_steps": 5,
}
NOWHERE = "http://127.0.0.1:1"  # no server answers there
# Ctrl-C ends it, though the tests may run where a shell has it ignored. As in conftest.py: patience
# with a store on a busy machine.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND += "from microgpt.tracking import MLflow; MLflow.PATIENCE = 300; "
COMMAND += "from microgpt.cli import main; main()"


def start(
    outputs: Path, *words: str, cwd: Path | None = None, first: str = ""
) -> "subprocess.Popen[str]":
    """`microgpt <words>` in a process of its own, which runs the program `first` before."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": path}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", first + COMMAND, *words],
        cwd=cwd,
        env=env,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def microgpt(outputs: Path, *words: str, code: int = 0, cwd: Path | None = None) -> tuple[str, str]:
    """What `microgpt <words>` says on standard output and standard error; it must end with `code`."""
    process = start(outputs, *words, cwd=cwd)
    said = process.communicate(timeout=300)  # a busy machine takes a minute to import what it needs
    assert process.returncode == code, said
    assert "not all is in MLflow" not in said[1], said
    return said


def train_here(outputs: Path, *overrides: str, name: str = "here") -> tuple[int, RunFolder]:
    """A run in this process: its exit code and its folder."""
    folder = outputs / "runs" / name
    return train_as(outputs, folder, *TINY, "progress=false", *overrides), RunFolder(folder)


def resume_here(outputs: Path, reference: object, *overrides: str) -> None:
    """A resume in this process."""
    assert train_as(outputs, outputs / "unused", f"resume={reference}", *overrides) == 0


def train_as(outputs: Path, folder: Path, *overrides: str) -> int:
    """What `train` returns for a command line."""
    overrides = (f"paths.outputs={outputs}", *overrides)
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return train(compose("train", list(overrides)), folder, overrides, TRUST).code


def wait_until(holds: Callable[[], Any]) -> None:
    """Wait until something holds; fail after a while.

    To look takes a quarter of the time at most: a question to a store would keep a processor busy.
    """
    limit = (begun := time.monotonic()) + 100
    while not holds():
        assert time.monotonic() < limit, "it never came about"
        time.sleep(max(0.03, 3 * (time.monotonic() - begun)))
        begun = time.monotonic()


def replace(file: Path, old: str, new: str) -> None:
    """Change a text by hand."""
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def only_run(outputs: Path) -> RunFolder:
    """The one run that there is."""
    (run,) = all_runs(outputs)
    return run


def has_reached(outputs: Path, step: int) -> bool:
    """Whether the one run has recorded `step`."""
    texts = [file.read_text() for file in outputs.glob("runs/*/metrics.jsonl")]
    rows = [text.split("\n")[:-1] for text in texts]  # what follows the last is being written
    return any(lines and json.loads(lines[-1])["step"] >= step for lines in rows)


def kill(process: "subprocess.Popen[str]") -> None:
    """kill -9."""
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def figures(run: RunFolder) -> dict[str, Any]:
    """All that a run must give again, to the last bit."""
    rows = [{k: v for k, v in row.items() if not k.startswith("cost/")} for row in run.metrics()]
    samples = (run.path / "samples.txt").read_bytes()
    facts = {key: run.info[key] for key in ("status", "signature", "source", "parameters_sha256")}
    return {"rows": rows, "samples": samples, **facts}


def store(outputs: Path) -> MlflowClient:
    """A client of the default store."""
    return MlflowClient(f"sqlite:///{outputs}/mlflow.db")


def stored(outputs: Path, experiment: str = "microgpt") -> list[Run]:
    """All runs of an experiment in the default store."""
    client = store(outputs)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def parents(outputs: Path) -> list[Run]:
    """The runs of the default store that are sweeps."""
    return [run for run in stored(outputs) if "sweep.id" in run.data.tags]


def children(outputs: Path) -> list[Run]:
    """The runs of the default store that are none."""
    return [run for run in stored(outputs) if "sweep.id" not in run.data.tags]


def history(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """metric -> its (step, value) pairs in the store, sorted."""
    names = client.get_run(run_id).data.metrics
    return {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))
        for name in names
    }


def has_stored(outputs: Path, step: int) -> bool:
    """Whether the default store has a figure of `step`; asked of the database, which is quicker."""
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        ((last,),) = database.execute("select max(step) from metrics").fetchall()
    return last is not None and last >= step


def recorded(run: RunFolder, names: Sequence[str] = ()) -> dict[str, list[tuple[int, float]]]:
    """The same from the run folder."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in run.metrics():
        for name, value in row.items():
            if name != "step" and (not names or name in names):
                found.setdefault(name, []).append((int(row["step"]), value))
    return found


def kill_all(process: "subprocess.Popen[str]") -> None:
    """kill -9, of the process that sends too: first, since it would live on."""
    for each in psutil.Process(process.pid).children():
        each.kill()
        each.wait(20)
    kill(process)


@contextmanager
def running(
    outputs: Path, *words: str, cwd: Path | None = None
) -> "Iterator[subprocess.Popen[str]]":
    """A process that is ended with the block, however that ends."""
    process = start(outputs, *words, cwd=cwd)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def rows_of(outputs: Path) -> dict[str, int]:
    """How many rows each table of the default store has."""
    with sqlite3.connect(outputs / "mlflow.db") as database:
        names = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        return {
            name: database.execute(f'select count(*) from "{name}"').fetchone()[0]
            for (name,) in names
        }


def artifacts(outputs: Path) -> dict[str, int]:
    """name -> time of writing, for every artifact of the default store."""
    place = outputs / "artifacts"
    return {
        str(f.relative_to(place)): f.stat().st_mtime_ns for f in place.rglob("*") if f.is_file()
    }


def project_here(run: RunFolder, outputs: Path, machine: Machine | None = None) -> Projection:
    """A run folder projected into the default store."""
    projection = Store(f"sqlite:///{outputs}/mlflow.db", outputs).project(run, "microgpt")
    assert isinstance(projection, Projection)
    projection.machine = machine
    projection.update()
    return projection


def sync_here(outputs: Path) -> list[str]:
    """What `microgpt sync` says, for the default store, in this process."""
    everything = [*all_sweeps(outputs), *all_runs(outputs)]
    return [*map(str, sync(everything, f"sqlite:///{outputs}/mlflow.db", outputs))]


def untracked(outputs: Path, *overrides: str, name: str = "here") -> RunFolder:
    """A finished run that no store knows."""
    return train_here(outputs, "tracking=none", *SHORT, *overrides, name=name)[1]
