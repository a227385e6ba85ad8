"""A run and a real tracking server that dies in its midst."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from microgpt.run.record import FINISHED
from microgpt.tracking import open_store
from tests.running import (
    SLOWLY,
    TINY,
    history,
    microgpt,
    only_run,
    recorded,
    start,
    store,
    stored,
    wait_until,
)

LIGHT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def answers(address: str) -> bool:
    """Whether a tracking server is up."""
    try:
        with urlopen(f"{address}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


@contextmanager
def serving(outputs: Path, port: int) -> Iterator[str]:
    """A tracking server on the store in `outputs`, killed with the block; its address."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{outputs}/mlflow.db"]
    command += ["--artifacts-destination", str(outputs / "served")]
    with (outputs / "server.log").open("a") as log:
        server = subprocess.Popen(
            command, env=os.environ | LIGHT, stdout=log, stderr=log, start_new_session=True
        )

    try:
        wait_until(lambda: answers(address))
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.soak
def test_a_server_that_dies_while_a_run_goes_on(outputs: Path) -> None:
    port = free_port()

    def some_are_there() -> bool:
        return any(history(store(outputs), run.info.run_id) for run in stored(outputs))

    with serving(outputs, port) as address:
        words = [*SLOWLY, "trainer.num_steps=600", f"tracking.uri={address}"]
        process = start(outputs, "train", *TINY, *words)
        wait_until(some_are_there)
    assert process.poll() is None, "the server should have died before the run ended"
    _, complained = process.communicate(timeout=200)
    run = only_run(outputs)
    assert (process.returncode, run.status) == (0, FINISHED)
    assert complained.endswith(f"later: microgpt sync {run.path.name}\n")
    assert stored(outputs)[0].info.status == "RUNNING"
    with serving(outputs, port) as address:
        for _ in range(2):
            microgpt(outputs, "sync", run.path.name)
            (there,) = stored(outputs)
            assert there.info.status == "FINISHED"
            assert history(store(outputs), there.info.run_id) == recorded(run)
        client = open_store(address, outputs)
        names = {f.path for f in client.list_artifacts(there.info.run_id)}
        assert {"metrics.jsonl", "samples.txt", "checkpoints", "documents.txt"} <= names
        copy = client.download_artifacts(there.info.run_id, "metrics.jsonl", str(outputs))
        assert Path(copy).read_bytes() == run.metrics_path.read_bytes()
