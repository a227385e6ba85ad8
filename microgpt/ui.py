"""`microgpt ui`: starts the MLflow UI on the store, and prints the address of a prepared view."""

import fcntl
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from os import environ, killpg
from pathlib import Path
from time import monotonic, sleep
from typing import IO

import psutil

from microgpt.core.check import BadValue
from microgpt.run.locks import lock
from microgpt.secret import blackened, public, restored
from microgpt.signals import STOPPING, handled
from microgpt.tracking import database_file, store_uri
from microgpt.tracking.address import is_web
from microgpt.tracking.view import runs_address

HOST = "127.0.0.1"
PORTS = 100  # that are tried, from the wanted one on
PATIENCE = 120.0  # seconds for the server to answer; 6 are usual
LIGHT = {  # two processes instead of ten, and no telemetry
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def serve(uri: str | None, outputs: Path, port: int, sweep: str | None = None) -> None:
    """Prints the address of the runs, and runs MLflow's server until it is interrupted.

    Where another `microgpt ui` runs one, or the store is a server, it only prints the address.

    sweep  the experiment or the sweep's id whose runs to show; default: the latest sweep

    Raises BadValue if there are no runs.
    """
    store = store_uri(uri, outputs)
    if is_web(store):
        print(f"open  {runs_address(store, outputs, public(store).rstrip('/'), sweep)}")
        return
    _refuse_missing_file(store)
    if running := running_port(store, outputs, port):
        address = runs_address(store, outputs, f"http://{HOST}:{running}", sweep)
        print(f"MLflow's server is running already\nopen  {address}")
        return
    free = free_port(port)
    address = runs_address(store, outputs, f"http://{HOST}:{free}", sweep)
    if port not in (free, 0):
        print(f"port {port} is in use: this is {free}")
    print("starting MLflow's server, which takes some seconds", flush=True)
    with (
        handled(signal.default_int_handler, (*STOPPING, signal.SIGHUP)),
        _server(store, outputs, free) as (process, log),
        _known(store, outputs, free),
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
    for port in range(wanted, min(wanted + PORTS, 65536)):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise BadValue("port", wanted, "this port and those above it are in use or not allowed")


def running_port(store: str, outputs: Path, wanted: int) -> int | None:
    """Where `microgpt ui` runs a server on this store, here, on a port that would be tried for `wanted`."""
    with suppress(OSError, ValueError), _place(store, outputs).open(encoding="utf-8") as file:
        if lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB) is False:  # who wrote it is alive
            host, port = file.read().split()
            is_near = wanted <= int(port) < wanted + PORTS
            if host == socket.gethostname() and is_near and _answers(int(port)):
                return int(port)
    return None


@contextmanager
def _known(store: str, outputs: Path, port: int) -> Iterator[None]:
    """Tell the next `microgpt ui` of a server, by a file that is locked as long as this process lives."""
    place = _place(store, outputs)
    try:
        file = place.open("a", encoding="utf-8")
    except OSError:  # an archive, in which nobody writes
        yield
        return
    with file:
        if not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):  # another server's, or no locks here
            yield
            return
        file.truncate(0)
        file.write(f"{socket.gethostname()} {port}\n")
        file.flush()
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def _place(store: str, outputs: Path) -> Path:
    return outputs / f".ui-{sha256(store.encode()).hexdigest()[:8]}"


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
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--host", HOST]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (outputs.absolute() / "artifacts").as_uri()]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env=environ | LIGHT | {"MLFLOW_BACKEND_STORE_URI": restored(store)},  # not for `ps`
            cwd="/",  # uvicorn imports what lies in the current folder, which may be anybody's
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
            raise _taken(port) if _answers(port) else _ended(log)
        if _answers(port) and _listens(process.pid, port):
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


def _listens(pid: int, port: int) -> bool:
    """Whether it is a process or one that it has started that listens, not another program."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                open_ = each.net_connections("tcp")
                if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in open_):
                    return True
    return False


def _taken(port: int) -> BadValue:
    """The error for a port that was free and is not any more."""
    return BadValue("port", port, "another program has taken it; the same command takes the next")


def _ended(log: IO[bytes]) -> BadValue:
    """The error for a server that exited by itself, with the last line of its log."""
    log.seek(0)
    lines = log.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
    return BadValue("server", "mlflow", f"exited; the last line of its log: {blackened(said)}")
