"""One store of two folders, as of two machines: what each trains, and what the store has then."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from microgpt.run.folder import all_runs
from microgpt.tracking import open_store
from tests.command import Ended, command
from tests.running import (
    NAMES,
    REPOSITORY,
    TINY,
    history,
    recorded,
    start,
    wait_until,
)
from tests.shared_server import SharedServer, shared_server
from tests.test_secret import check_nowhere

pytestmark = pytest.mark.slow
QUICK = [f"data.path={NAMES}", "model.n_embd=8", "model.n_head=2", "trainer.num_steps=40"]
QUICK += ["trainer.eval_every=20", "trainer.eval_documents=5", "sampling.num_samples=2"]


@pytest.fixture(scope="module")
def server() -> Iterator[SharedServer]:
    with shared_server() as one:
        yield one


def begin(outputs: Path, jobs: int, uri: str, *words: str) -> "subprocess.Popen[str]":
    """A sweep over seeds in a folder of its own, with one worker."""
    program = "from microgpt.cli import main; main()"
    own = [f"seed=range({jobs})", f"tracking.uri={uri}", "hydra.launcher.workers=1", *words]
    return subprocess.Popen(
        [sys.executable, "-c", program, "train", "-m", *own],
        env=os.environ | {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What a sweep said that came to its end."""
    said = process.communicate(timeout=1500)
    assert process.returncode == 0, said
    return said


def jobs_in(client: MlflowClient, experiment: str = "microgpt") -> list[Run]:
    """The runs of jobs in a store."""
    found = client.get_experiment_by_name(experiment)
    assert found
    page = client.search_runs([found.experiment_id], max_results=1000)
    return [run for run in page if "sweep.id" not in run.data.tags]


def check_all(
    client: MlflowClient, jobs: int, *places: Path, experiment: str = "microgpt"
) -> Counter[int]:
    """Each job once or twice, finished, and what its folder has: each figure once, each file.

    Returns how many jobs there are once, and twice.
    """
    there = {run.info.run_id: run for run in jobs_in(client, experiment)}
    counts = Counter(run.data.tags["microgpt.id"] for run in there.values())
    assert len(counts) == jobs
    assert set(counts.values()) <= {1, 2}
    folders = [run for place in places for run in all_runs(place)]
    assert {run.mlflow_run_id for run in folders} == set(there)
    assert len(folders) == len(there)
    for run in folders:
        stored = there[run.mlflow_run_id]
        assert stored.info.status == "FINISHED"
        assert stored.data.tags["microgpt.folder"] == f"{gethostname()}:{run.path}"
        assert history(client, run.mlflow_run_id) == recorded(run)
    run = folders[-1]
    names = {file.path for file in client.list_artifacts(run.mlflow_run_id)}
    assert {"metrics.jsonl", "samples.txt", "config.yaml", "run.json", "checkpoints"} <= names
    return Counter(counts.values())


def test_two_folders_and_one_database(outputs: Path, tmp_path: Path) -> None:
    uri, jobs = f"sqlite:///{outputs}/mlflow.db", 5
    places = [tmp_path / "one", tmp_path / "two"]
    both = [begin(place, jobs, uri, *QUICK) for place in places]
    for process in both:
        ended(process)
    client = MlflowClient(uri)
    check_all(client, jobs, *places)
    third, _ = ended(begin(tmp_path / "three", jobs, uri, *QUICK))
    assert f"{jobs} jobs: {jobs} finished before, skipped" in third
    assert all_runs(tmp_path / "three") == []
    check_all(client, jobs, *places)


def test_a_sweep_says_what_is_under_way_elsewhere(outputs: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{outputs}/mlflow.db"
    words = [*TINY, "trainer.num_steps=100000"]
    first = begin(tmp_path / "one", 2, uri, *words)
    try:
        client = MlflowClient(uri)
        wait_until(lambda: client.get_experiment_by_name("microgpt") and jobs_in(client))
        second = begin(tmp_path / "two", 2, uri, *words)
        assert second.stdout is not None
        lines = [second.stdout.readline() for _ in range(2)]
        second.kill()
        second.communicate()
        (sweep,) = (tmp_path / "one/sweeps").iterdir()
        place = f"{gethostname()}:{sweep}"
        assert lines[1] == f"       1 under way in {place}, trained here too\n", lines
    finally:
        first.kill()
        first.communicate()


def two_folders_and_a_server(
    server: SharedServer, tmp_path: Path, jobs: int, name: str
) -> Counter[int]:
    """Two sweeps of the same jobs, whose server is killed once and comes back."""
    words = [*QUICK, f"tracking.experiment={name}"]
    places = [tmp_path / "one", tmp_path / "two"]
    both = [begin(place, jobs, server.address, *words) for place in places]
    client = open_store(server.address, tmp_path)
    wait_until(lambda: client.get_experiment_by_name(name))
    wait_until(lambda: len(jobs_in(client, name)) > jobs // 4)
    server.kill()
    assert all(process.poll() is None for process in both), "the server died too late"
    time.sleep(3)
    server.start()
    for process in both:
        ended(process)
    for place in places:
        ended(start(place, "sync"))
    return check_all(client, jobs, *places, experiment=name)


def test_two_folders_and_a_server_that_dies(server: SharedServer, tmp_path: Path) -> None:
    two_folders_and_a_server(server, tmp_path, 12, "some")


@pytest.mark.soak
def test_a_database_with_a_password(server: SharedServer, tmp_path: Path) -> None:
    """It is used, and stands neither in files nor in rows nor in what is said."""
    hidden = f"postgresql+psycopg2://mlflow:***@127.0.0.1:{server.database}/mlflow"
    uri = hidden.replace("***", server.password)
    words = ["train", *QUICK, f"tracking.uri={uri}", "tracking.experiment=direct"]
    one = command([*words, "trainer.stop_after=20"], tmp_path)
    assert (one.code, one.err) == (0, "")
    (run,) = all_runs(tmp_path / "outputs")
    again = command(["train", f"resume={run.path.name}", f"tracking.uri={uri}"], tmp_path)
    sweep = command([*words, "-m", "seed=1,2", "hydra/launcher=basic"], tmp_path)
    sync = command(["sync", "--uri", uri], tmp_path)
    assert [each.code for each in (again, sweep, sync)] == [0, 0, 0]
    client = MlflowClient(uri)
    for run in all_runs(tmp_path / "outputs"):
        assert history(client, run.mlflow_run_id) == recorded(run)
    plain = uri.replace("+psycopg2", "")
    words = ["pg_dump", f"--dbname={plain}", "--inserts"]
    dump = subprocess.run(words, capture_output=True, text=True, check=True)
    assert run.mlflow_run_id in dump.stdout
    said = one, again, sweep, sync, Ended(0, dump.stdout, "")
    check_nowhere(tmp_path, *said, secret=server.password)
