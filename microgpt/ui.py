"""`microgpt ui`: MLflow's own web UI on the store of the bench, opened at a view worth seeing."""

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from os import environ, killpg
from pathlib import Path
from time import monotonic, sleep
from typing import IO

from microgpt.core.check import BadValue
from microgpt.signals import STOPPING, handled
from microgpt.tracking import store_uri
from microgpt.tracking.view import runs_address

HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds for the server to answer; 6 are usual
LIGHT = {  # two processes instead of ten, and nothing sent anywhere
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def serve(uri: str | None, outputs: Path, port: int, sweep: str | None = None) -> None:
    """Print the address of the runs; run MLflow's server there until it is interrupted.

    sweep  whose runs to show: an experiment's name or an id; else those of the latest

    A store that is a server has a UI already: then the address is all. Raises BadValue where there
    is nothing to show.
    """
    store = store_uri(uri, outputs)
    if store.startswith(("http:", "https:")):
        print(f"open  {runs_address(store, outputs, store.rstrip('/'), sweep)}")
        return
    _refuse_missing_file(store)
    free = free_port(port)
    address = runs_address(store, outputs, f"http://{HOST}:{free}", sweep)
    if port not in (free, 0):
        print(f"port {port} is in use: this is {free}")
    print("MLflow's server starts, in some seconds", flush=True)
    with (
        handled(signal.default_int_handler, (*STOPPING, signal.SIGHUP)),
        _server(store, outputs, free) as (process, log),
    ):
        try:
            _wait_for_answer(process, free, log)
            print(f"open  {address}\nstop  Ctrl-C", flush=True)
            process.wait()
            raise _ended(log)
        except KeyboardInterrupt:
            if sys.stdout.isatty():
                print()  # after the terminal's ^C


def free_port(wanted: int) -> int:
    """`wanted`, or the first free port above it; 0 leaves the choice to the system."""
    if not 0 <= wanted < 65536:
        raise BadValue("port", wanted, "must be from 0 to 65535")
    for port in range(wanted, min(wanted + 100, 65536)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise BadValue("port", wanted, "in use or not allowed, like those above it")


def _refuse_missing_file(store: str) -> None:
    """SQLite would make the file: looking must leave nothing behind."""
    path = store.removeprefix("sqlite:///")
    if path != store and not Path(path).exists():
        raise BadValue("uri", store, "no runs yet; `microgpt train` makes the first")


@contextmanager
def _server(
    store: str, outputs: Path, port: int
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """MLflow's server with its log, in a process group that ends with the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (outputs.absolute() / "artifacts").as_uri()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=environ | LIGHT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process, log
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its children: asked first, then made to."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait_for_answer(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    """Return when the server is up. Raises BadValue when it ends before, or never answers."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        if process.poll() is not None:
            raise _ended(log)
        if _answers(port):
            return
        sleep(0.1)
    raise BadValue("port", port, f"no answer from MLflow's server in {PATIENCE:.0f} s")


def _answers(port: int) -> bool:
    try:
        with closing(HTTPConnection(HOST, port, timeout=5)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False


def _ended(log: IO[bytes]) -> BadValue:
    """The complaint about a server that ended by itself, with the last thing it said."""
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return BadValue("server", "mlflow", f"ended; its last words: {said}")
