"""PostgreSQL and MLflow's server, set up by the commands of docs/server.md."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.running import REPOSITORY, wait_until
from tests.test_tracking_server import LIGHT, answers, free_port

PAGE = REPOSITORY / "docs/server.md"
# PostgreSQL does not run as root; its Debian package has made a user for it. The server runs as we do,
# since another user may not reach our Python.
DATABASE = "postgres" if os.getuid() == 0 else None


def commands() -> list[str]:
    """The page's commands, in their order."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


class SharedServer:
    """The page's server in a folder of its own, on ports of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port, self.database = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        given = [self._here(line) for line in commands()]
        self._last = next(i for i, line in enumerate(given) if line.startswith("mlflow server"))
        self._given = given[: self._last + 1]
        self._process: subprocess.Popen[bytes] | None = None

    def _here(self, line: str) -> str:
        return line.replace("5433", str(self.database)).replace("5000", str(self.port))

    @property
    def password(self) -> str:
        """The database's."""
        return (self.place / "password").read_text().strip()

    def set_up(self) -> None:
        """All that the page has before the server."""
        done = self._run(self._given[:-1], DATABASE)
        assert done.wait() == 0, (self.place / "log").read_text()

    def start(self) -> None:
        """The server, in a new shell, with the variables that the page sets."""
        variables = [line for line in self._given if line.startswith("export")]
        self._process = self._run([*variables, f"exec {self._given[-1]}"])
        wait_until(lambda: answers(self.address))

    def kill(self) -> None:
        """kill -9 of the server; PostgreSQL stays."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End both."""
        self.kill()
        ended = "pg_ctl --pgdata=postgres --mode=immediate stop"
        self._run([self._given[0], ended], DATABASE).wait()

    def _run(self, lines: list[str], user: str | None = None) -> "subprocess.Popen[bytes]":
        script = "\n".join(["set -euo pipefail", *lines])
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        env = os.environ | LIGHT | {"PATH": os.pathsep.join(paths), "HOME": str(self.place)}
        with (self.place / "log").open("ab") as log:
            return subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.place,
                env={k: v for k, v in env.items() if k not in ("PYTHONPATH", "TMPDIR")},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                user=user,
                start_new_session=True,
            )


@contextmanager
def shared_server() -> Iterator[SharedServer]:
    """A server that is up, and ends with the block."""
    place = Path(
        tempfile.mkdtemp(prefix="microgpt-server-", dir="/tmp")
    )  # pytest's are root's alone
    if DATABASE:
        shutil.chown(place, DATABASE)
    server = SharedServer(place)
    try:
        server.set_up()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)
