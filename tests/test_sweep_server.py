"""Sweeps and a store that is down, dies, or is slow: the folders have all, and sync sends it once."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from mlflow.entities import Run

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from microgpt.run.sweep import all_sweeps
from microgpt.tracking.sweep import stored as stored_of
from tests.conftest import Here
from tests.running import (
    NOWHERE,
    REPOSITORY,
    SLOWLY,
    TINY,
    artifacts,
    history,
    microgpt,
    recorded,
    rows_of,
    store,
    stored,
    sync_here,
    wait_until,
)
from tests.test_tracking_server import free_port, serving

DELAY = 2.0  # seconds that a slow server takes for any answer
# What may wait for a store: the beginning 8 s, the workers' end 20, the launcher's 8 and 10.
IMPATIENT = "from microgpt.sweep import conduct, pool; from microgpt.tracking import MLflow; "
IMPATIENT += "conduct.PATIENCE = 8; pool.PATIENCE = MLflow.PATIENCE = 10; "
WAITING = 46.0
JOBS = 4
MESSAGE = "later: microgpt sync\n"


def begin(outputs: Path, where: str, *words: str, first: str = "") -> "subprocess.Popen[str]":
    """A sweep of tiny jobs over seeds, with the usual patience unless `first` says otherwise."""
    program = first + "from microgpt.cli import main; main()"
    command = [sys.executable, "-c", program, "train", "-m"]
    return subprocess.Popen(
        [*command, *TINY, f"seed=range({JOBS})", where, *words],
        env=os.environ | {"MICROGPT_OUTPUTS": str(outputs), "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]", counts: str = f"{JOBS} finished") -> str:
    """What a sweep complained of that came to its end."""
    said, complained = process.communicate(timeout=600)
    assert process.returncode == 0, (said, complained)
    assert f"{JOBS} jobs: {counts}\n" in said
    return complained


def family(outputs: Path) -> tuple[Run, list[Run]]:
    """The one sweep's run in the store, and all others."""
    runs = stored(outputs)
    (parent,) = [run for run in runs if "sweep.id" in run.data.tags]
    return parent, [run for run in runs if run is not parent]


def check_all_there(outputs: Path) -> None:
    """The store has what the folders have, once."""
    (sweep,) = all_sweeps(outputs)
    parent, children = family(outputs)
    assert parent.data.tags["microgpt.id"] == sweep.path.name
    assert (parent.info.status, sweep.status) == ("FINISHED", FINISHED)
    assert parent.info.end_time == round(sweep.ended * 1000)
    folders = {run.path.name: run for run in all_runs(outputs)}
    assert sorted(run.data.tags["microgpt.id"] for run in children) == sorted(folders)
    assert len(folders) == JOBS
    asked = stored_of(store(outputs), parent.info.experiment_id, sweep.path.name)
    assert asked == {run.mlflow_run_id: (name, "FINISHED") for name, run in folders.items()}
    for child in children:
        tags = child.data.tags
        assert child.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags[f"sweep.{sweep.path.name}"] == "default"
        metrics = history(store(outputs), child.info.run_id)
        assert metrics == recorded(folders[tags["microgpt.id"]])


def sync_twice(outputs: Path, *words: str) -> None:
    """Send what is missing; a second time there is nothing to send."""
    microgpt(outputs, "sync", *words)
    check_all_there(outputs)
    rows = rows_of(outputs)
    microgpt(outputs, "sync", *words)
    check_all_there(outputs)
    assert rows_of(outputs) == rows


@pytest.mark.slow
def test_the_process_that_sends_is_killed_in_a_sweep(outputs: Path) -> None:
    process = begin(outputs, "trainer.num_steps=400", "hydra/launcher=basic")
    wait_until(lambda: len(all_runs(outputs)) > 1)
    (sender,) = psutil.Process(process.pid).children()
    sender.kill()
    assert ended(process).endswith(f"the process that sends was killed (signal 9)); {MESSAGE}")
    sync_twice(outputs)


@pytest.mark.slow
def test_sync_sends_sweeps_too(outputs: Path, here: Here) -> None:
    quick = ["trainer.num_steps=3", "hydra/launcher=basic", f"tracking.uri={NOWHERE}"]
    said, complained = here(outputs, "train", "-m", *TINY, f"seed=range({JOBS})", *quick)
    assert f"{JOBS} jobs: {JOBS} finished\n" in said
    assert complained.endswith(MESSAGE)
    (sweep,) = all_sweeps(outputs)
    local = ["--uri", f"sqlite:///{outputs}/mlflow.db"]
    said, _ = here(outputs, "sync", *local)
    assert len(said.splitlines()) == 1 + JOBS
    check_all_there(outputs)
    parent, _ = family(outputs)
    assert said.startswith(f"{sweep.path.name}  finished  MLflow {parent.info.run_id}\n")
    rows, files = rows_of(outputs), artifacts(outputs)
    assert sync_here(outputs) == said.splitlines()
    assert (rows_of(outputs), artifacts(outputs)) == (rows, files)
    for status, shown in (("failed", "FAILED"), ("stopped", "KILLED"), ("running", "FAILED")):
        sweep.update(status=status)  # the last: of a process that is no more
        sync_here(outputs)
        assert family(outputs)[0].info.status == shown


@pytest.mark.soak
def test_a_server_that_is_down_as_a_sweep_begins(outputs: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    complained = ended(begin(outputs, f"tracking.uri={address}", "trainer.num_steps=20"))
    assert f"not all is in MLflow yet ({address}: nothing answers there); {MESSAGE}" in complained
    assert stored(outputs) == []
    with serving(outputs, port):
        sync_twice(outputs)


@pytest.mark.slow
def test_a_server_that_dies_in_the_midst_of_a_sweep(outputs: Path) -> None:
    port = free_port()
    with serving(outputs, port) as address:
        process = begin(outputs, f"tracking.uri={address}", *SLOWLY, "trainer.num_steps=500")
        wait_until(lambda: any(run.data.metrics for run in stored(outputs)))
    assert process.poll() is None, "the server should have died before the sweep ended"
    assert len(family(outputs)[1]) < JOBS, "some jobs should begin without a server"
    complained = ended(process)
    assert f"not all is in MLflow yet ({address}: nothing answers there); {MESSAGE}" in complained
    with serving(outputs, port):
        sync_twice(outputs)


@contextmanager
def slowed(address: str) -> Iterator[str]:
    """A proxy of a server whose every answer takes its time; its address."""

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            wanted = Request(address + self.path, body or None, kept, method=self.command)
            try:
                answer = urlopen(wanted, timeout=100)
            except HTTPError as error:
                answer = error
            with answer:
                content = answer.read()
            time.sleep(DELAY)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def handle(self) -> None:
            with suppress(OSError):  # who asked has gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def pace(outputs: Path) -> tuple[float, float]:
    """Seconds that the longest job trained, and that lie between the first job's end and the last's."""
    runs = all_runs(outputs)
    ends = [run.ended for run in runs]
    return max(run.metrics()[-1]["cost/seconds"] for run in runs), max(ends) - min(ends)


@pytest.mark.soak
def test_a_server_whose_every_answer_takes_seconds(outputs: Path, tmp_path: Path) -> None:
    words = ["trainer.num_steps=600", "trainer.log_every=10"]
    quick = tmp_path / "quick"  # the same with a quick server: MLflow's import takes its time, too
    with serving(outputs, free_port()) as address:
        started = time.monotonic()
        ended(begin(quick, f"tracking.uri={address}", "tracking.experiment=quick", *words))
        whole = time.monotonic() - started
        with slowed(address) as slow:
            begun = time.monotonic()
            complained = ended(begin(outputs, f"tracking.uri={slow}", *words, first=IMPATIENT))
            took = time.monotonic() - begun
        assert f"not all is in MLflow yet ({slow}: " in complained
        assert complained.endswith(MESSAGE)
        (longest, between), (usual, apart) = pace(outputs), pace(quick)
        print(f"{longest=:.1f} {usual=:.1f} {between=:.1f} {apart=:.1f} {took=:.0f}")
        # Sixty rows, after the ten calls of a run's beginning, would take minutes.
        assert longest < 3 * usual + 3 * DELAY
        assert between < 3 * apart + 3 * DELAY
        assert took < 2 * whole + WAITING
        assert {run.status for run in all_runs(outputs)} == {FINISHED}
        sync_twice(outputs, "--uri", address)


@pytest.mark.slow
def test_a_server_that_hangs_is_waited_for_once(outputs: Path) -> None:
    """A sweep takes some seconds longer than with none, and says once that not all is sent."""

    def timed(uri: str, counts: str, *words: str) -> tuple[float, str]:
        begun = time.monotonic()
        quick = ["trainer.num_steps=3", "hydra/launcher=basic", *words]
        complained = ended(begin(outputs, f"tracking.uri={uri}", *quick), counts)
        return time.monotonic() - begun, complained

    with socket.create_server(("127.0.0.1", 0), backlog=1000) as mute:  # it never answers
        hanging = f"http://127.0.0.1:{mute.getsockname()[1]}"
        usual, _ = timed(NOWHERE, f"{JOBS} finished", "trainer.log_every=2")
        for counts in (f"{JOBS} finished", f"{JOBS} skipped, finished before"):
            took, complained = timed(hanging, counts)
            print(f"{usual=:.1f} {took=:.1f}")
            assert complained.count("not all is in MLflow yet") == 1
            assert took < 2 * usual + 12
