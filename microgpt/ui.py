"""`microgpt ui`: starts the MLflow UI on the store, and prints the address of a prepared view."""

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
from microgpt.secret import blackened, public, restored
from microgpt.signals import STOPPING, handled
from microgpt.tracking import database_file, store_uri
from microgpt.tracking.address import is_web
from microgpt.tracking.view import runs_address

HOST = "127.0.0.1"
PATIENCE = 120.0  # seconds for the server to answer; 6 are usual
LIGHT = {  # two processes instead of ten, and no telemetry
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def serve(uri: str | None, outputs: Path, port: int, sweep: str | None = None) -> None:
    """Prints the address of the runs, and runs MLflow's server until it is interrupted.

    sweep  the experiment or the sweep's id whose runs to show; default: the latest sweep

    If the store is a server, only prints the address. Raises BadValue if there are no runs.
    """
    store = store_uri(uri, outputs)
    if is_web(store):
        print(f"open  {runs_address(store, outputs, public(store).rstrip('/'), sweep)}")
        return
    _refuse_missing_file(store)
    free = free_port(port)
    address = runs_address(store, outputs, f"http://{HOST}:{free}", sweep)
    if port not in (free, 0):
        print(f"port {port} is in use: this is {free}")
    print("starting MLflow's server, which takes some seconds", flush=True)
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
    """`wanted`, or the first free port above it; 0 lets the system choose. Raises BadValue."""
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
    raise BadValue("port", wanted, "this port and those above it are in use or not allowed")


def _refuse_missing_file(store: str) -> None:
    """Raises BadValue for a missing SQLite file, which SQLite would otherwise create."""
    file = database_file(store)
    if file is not None and not file.exists():
        raise BadValue("uri", store, "no runs yet; `microgpt train` makes the first")


@contextmanager
def _server(
    store: str, outputs: Path, port: int
) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes]]]:
    """MLflow's server with its log, in a process group that ends with the block."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (outputs.absolute() / "artifacts").as_uri()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=environ | LIGHT | {"MLFLOW_BACKEND_STORE_URI": restored(store)},  # not for `ps`
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
    """Ends a process group: with SIGTERM, then with SIGKILL."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait_for_answer(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    """Returns when the server is up. Raises BadValue if it exits or does not answer in time."""
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
    """The error for a server that exited by itself, with the last line of its log."""
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return BadValue("server", "mlflow", f"exited; the last line of its log: {blackened(said)}")
