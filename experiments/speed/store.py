"""What a store of many runs costs: `python experiments/speed/store.py` writes store.json.

`python experiments/speed/report.py` puts it into README.md.

A sweep of one tiny job is trained once. Its run is then multiplied, in the database by SQL and in the
folders by copying: 10,000 real runs would take hours, and these have the same params, tags and figures.
Each run has an id and a seed of its own, and belongs to two sweeps: one of a hundred runs, one of all.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from socket import gethostname
from time import perf_counter
from typing import Any

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.sweep import SweepFolder, all_sweeps
from microgpt.tracking.sweep import SweepProjection
from microgpt.tracking.sync import Store, sync
from microgpt.tracking.view import runs_address

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-c", "from microgpt.cli import main; main()"]
MEMORY = Path("/dev/shm")  # else the disk is measured, and what others do there
SIZES = (100, 1_000, 10_000)  # runs
JOBS = 100  # of a usual sweep
TURNS = 3
TINY = ["model.n_embd=8", "model.n_head=2", "trainer.num_steps=40", "trainer.eval_every=20"]
TINY += ["trainer.eval_documents=10"]
EVERY = "sweep-of-every-run"
COPIES = {  # of the rows of one run in a table: what its columns become
    "runs": {
        "run_uuid": ":new",
        "name": "'seed=' || :seed",
        "start_time": "start_time + :seed",
        "artifact_uri": "replace(artifact_uri, :old, :new)",
    },
    "params": {"run_uuid": ":new", "value": "iif(key = 'seed', :seed, value)"},
    "latest_metrics": {"run_uuid": ":new"},
    "metrics": {"run_uuid": ":new"},
    "tags": {
        "run_uuid": ":new",
        "key": "iif(key like 'sweep.%' and :seed >= :jobs, 'sweep.' || :sweep, key)",
        "value": "case key when 'seed' then :seed when 'microgpt.id' then :name"
        " when 'microgpt.uid' then :new when 'microgpt.folder' then :place else value end",
    },
}


def microgpt(outputs: Path, *words: str) -> float:
    """Wall seconds of a command."""
    begun = perf_counter()
    env = os.environ | {"MICROGPT_OUTPUTS": str(outputs)}
    subprocess.run([*COMMAND, *words], env=env, stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - begun


def template(outputs: Path) -> None:
    """A sweep of one tiny job."""
    microgpt(outputs, "train", "-m", *TINY, "seed=0")


def multiply(outputs: Path, count: int) -> None:
    """From the one run of `template` to so many, in the database and in the folders."""
    (first,), (sweep,) = all_runs(outputs), all_sweeps(outputs)
    runs = [
        {
            "old": first.mlflow_run_id,
            "new": f"{seed:032x}",
            "name": (name := f"{seed:012x}{first.path.name[12:]}"),
            "place": f"{gethostname()}:{first.path.with_name(name)}",
            "seed": seed,
            "sweep": f"{seed // JOBS:012x}-sweep",
            "jobs": JOBS,
        }
        for seed in range(1, count)
    ]
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database, database:
        for table, changes in COPIES.items():
            columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
            values = ", ".join(changes.get(column, column) for column in columns)
            rows = f"select {values} from {table} where run_uuid = :old"
            database.executemany(f"insert into {table} {rows}", runs)
        database.execute(
            "insert into tags (key, value, run_uuid) select ?, 'default', run_uuid from tags"
            " where key = 'microgpt.id' and run_uuid != ?",
            (f"sweep.{EVERY}", sweep.mlflow_run_id),
        )
    for run in runs:
        copy(first, run)
        copy_artifacts(first, run, outputs / "artifacts/microgpt")
    job = sweep.jobs[0]
    jobs = [job, *(job | {"run": run["name"]} for run in runs)]
    every = SweepFolder(sweep.path.with_name(EVERY))
    every.path.mkdir()
    every.begin(**sweep.info | {"id": EVERY, "jobs": jobs})
    sweep.update(jobs=jobs[:JOBS])


def copy(first: RunFolder, run: dict[str, Any]) -> None:
    """A run's folder, without its documents and checkpoints."""
    path = first.path.with_name(run["name"])
    path.mkdir()
    for name in ("config.yaml", "metrics.jsonl", "samples.txt"):
        shutil.copy(first.path / name, path / name)
    begun = first.info["begun"] + run["seed"]  # one a second
    info = first.info | {"id": path.name, "uid": run["new"], "begun": begun}
    info["name"] = f"seed={run['seed']}"
    if run["seed"] >= JOBS:
        info["sweeps"] = {run["sweep"]: "default"}
    (path / "run.json").write_text(json.dumps(info, indent=1))  # RunFolder would wait for the disk
    os.utime(path / "run.json", (begun, begun))
    (path / ".mlflow_run_id").write_text(run["new"])


def copy_artifacts(first: RunFolder, run: dict[str, Any], place: Path) -> None:
    """What the store has of a run's folder."""
    own = place / run["new"] / "artifacts"
    shutil.copytree(place / first.mlflow_run_id / "artifacts", own)
    for file in first.path.with_name(run["name"]).glob("[!.]*"):
        shutil.copy(file, own)


def sync_all(outputs: Path) -> None:
    """What `microgpt sync` does where there is nothing to send."""
    before = rows_of(outputs)
    for line in sync(all_runs(outputs), f"sqlite:///{outputs}/mlflow.db", outputs):
        assert "MLflow" in line, line
    assert rows_of(outputs) == before, "it has sent something"


def rows_of(outputs: Path) -> int:
    """How many rows the store has that grow with what is sent."""
    with closing(sqlite3.connect(outputs / "mlflow.db")) as database:
        tables = "runs", "metrics", "tags", "inputs"
        counts = [database.execute(f"select count(*) from {table}").fetchone() for table in tables]
    return sum(count for (count,) in counts)


def skip_check(outputs: Path, sweep: SweepFolder) -> dict[str, tuple[str, str]]:
    """What the beginning of a sweep asks the store: its run, and the status of each job's run."""
    projection = Store(f"sqlite:///{outputs}/mlflow.db", outputs).project(sweep, "microgpt")
    assert isinstance(projection, SweepProjection)
    return projection.stored()


def timed(work: Callable[[], Any]) -> float:
    """The least of some turns, in seconds: what else the machine does only adds."""
    seconds = []
    for _ in range(TURNS):
        begun = perf_counter()
        work()
        seconds.append(perf_counter() - begun)
    return min(seconds)


def measure(outputs: Path) -> dict[str, float]:
    """Seconds of what a user waits for."""
    uri = f"sqlite:///{outputs}/mlflow.db"
    store = Store(uri, outputs)
    sweep = next(each for each in all_sweeps(outputs) if each.path.name != EVERY)
    every = SweepFolder(sweep.path.with_name(EVERY))
    last = all_runs(outputs)[-1]
    skip_check(outputs, sweep)  # MLflow is imported, and the file is in memory
    return {
        "skip check, sweep of 100": timed(lambda: skip_check(outputs, sweep)),
        "skip check, sweep of all": timed(lambda: skip_check(outputs, every)),
        "a run finds its place": timed(lambda: store.project(last, "microgpt")),
        "address for microgpt ui": timed(lambda: runs_address(uri, outputs, "http://server")),
        "microgpt sync, nothing to send": timed(lambda: sync_all(outputs)),
        "microgpt runs": timed(lambda: microgpt(outputs, "runs")),
        "microgpt runs -n 0": microgpt(outputs, "runs", "-n", "0"),
        "microgpt train -m, one tiny job": microgpt(outputs, "train", "-m", *TINY, "seed=987654"),
    }


def main() -> None:
    """Measure at each size, print, and write."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        whole = Path(folder) / "template"
        whole.mkdir()
        template(whole)
        for count in SIZES:
            outputs = Path(folder) / str(count)
            shutil.copytree(whole, outputs)
            multiply(outputs, count)
            load = os.getloadavg()[0]
            results[str(count)] = {"load": load, "seconds": measure(outputs)}
            for name, seconds in results[str(count)]["seconds"].items():
                print(f"{count:>6} runs  {name:<32} {seconds:7.2f} s", flush=True)
            (HERE / "store.json").write_text(json.dumps(results, indent=1) + "\n")
            shutil.rmtree(outputs)


if __name__ == "__main__":
    main()
