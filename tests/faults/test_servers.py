"""Servers that fail in every way, and a database that others hold."""

import os
import random
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from microgpt.run.folder import all_runs
from tests.faults.conftest import Noted
from tests.faults.whole import STEPS, begin, check_equal, check_store, ended
from tests.running import TINY, microgpt, stored, sync_here, train_here, wait_until
from tests.shared_server import shared_server
from tests.test_shared_store import two_folders_and_a_server
from tests.test_tracking_server import free_port, serving

# What waits for a store, at the end of a run, waits for ten seconds.
IMPATIENT = "from microgpt.tracking import MLflow; MLflow.PATIENCE = 10; "
LATE = 5.0  # seconds
Answer = tuple[int, bytes]
Fault = Callable[["Faulty", Callable[[], Answer]], None]


class Faulty(BaseHTTPRequestHandler):
    """Asks a server for each answer, and spoils it."""

    address: str
    fault: Fault
    chance: float  # that an answer is spoilt
    over: Flag
    rng = random.Random(0)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def asked() -> Answer:
            kept = {key: value for key, value in self.headers.items() if key.lower() != "host"}
            wanted = Request(self.address + self.path, body or None, kept, method=self.command)
            try:
                answer = urlopen(wanted, timeout=100)
            except HTTPError as error:
                answer = error
            with answer:
                return int(answer.status), answer.read()

        if self.rng.random() < self.chance:
            type(self).fault(self, asked)
        else:
            self.say(*asked())

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def say(self, status: int, content: bytes, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)
        if length is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def handle(self) -> None:
        with suppress(OSError):  # who asked has gone
            super().handle()


def half(server: Faulty, asked: Callable[[], Answer]) -> None:
    """Does what it is asked for, and breaks off its answer."""
    status, content = asked()
    server.say(status, content[: len(content) // 2], len(content) + 1)


def late(server: Faulty, asked: Callable[[], Answer]) -> None:
    answer = asked()
    server.over.wait(LATE)
    server.say(*answer)


FAULTS: dict[str, Fault] = {
    "hangs": lambda server, _: server.over.wait() and None,
    "says 500": lambda server, _: server.say(500, b'{"error_code": "INTERNAL_ERROR"}'),
    "says 500 when it is done": lambda server, asked: server.say(500, asked()[1]),
    "says 429": lambda server, _: server.say(429, b"slow down"),
    "breaks off its answers": half,
    "answers garbage": lambda server, _: server.say(200, os.urandom(300)),
    "closes the connection": lambda server, asked: asked() and server.wfile.close(),
    "answers 5 s late": late,
}


@contextmanager
def faulty(address: str, fault: Fault, chance: float) -> Iterator[str]:
    """A server before the one at `address`; its address."""
    facts = {"address": address, "fault": fault, "chance": chance, "over": Flag()}
    handler = type("Handler", (Faulty,), facts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        facts["over"].set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def server(
    store_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A server that is as it should be: the folder of its store, and its address."""
    outputs = tmp_path_factory.mktemp("server")
    shutil.copy(store_template, outputs / "mlflow.db")
    with serving(outputs, free_port()) as address:
        yield outputs, address


def train(outputs: Path, uri: str, *words: str) -> str:
    """What a run says whose store is at `uri`; it must end well."""
    own = [*TINY, *STEPS, "progress=false", f"tracking.uri={uri}", *words]
    return ended(begin(outputs, "train", *own, first=IMPATIENT), 0)


def check_sent(outputs: Path, store: Path, address: str, experiment: str) -> int:
    """Sends what is missing; how many figures there are, each once."""
    microgpt(outputs, "sync", "--uri", address)
    return check_store(store, all_runs(outputs), experiment)


@pytest.mark.soak
@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_server(kind: str, server: tuple[Path, str], tmp_path: Path, noted: Noted) -> None:
    """Always, or now and then."""
    chances = [1.0, 0.5, 0.2]
    place, address = server
    complained = count = 0
    for chance in chances:
        outputs, name = tmp_path / str(chance), f"{kind} {chance}"
        with faulty(address, FAULTS[kind], chance) as uri:
            said = train(outputs, uri, f"tracking.experiment='{name}'")
        complained += "later: microgpt sync" in said
        count += check_sent(outputs, place, address, name)
    seen = f"{complained} of the runs said that not all was sent yet; {count:,} figures"
    noted(f"a server that {kind}: always, every second time, every fifth", len(chances), seen)


@pytest.mark.soak
def test_a_server_that_refuses(server: tuple[Path, str], tmp_path: Path, noted: Noted) -> None:
    place, address = server
    said = train(tmp_path, f"http://127.0.0.1:{free_port()}", "tracking.experiment=refuses")
    assert "nothing answers there" in said
    count = check_sent(tmp_path, place, address, "refuses")
    noted("a server that refuses", 1, f"the run said so; {count:,} figures")


def reached(store: Path, steps: int) -> bool:
    """Whether a store has a figure of the run with so many steps."""
    runs = [run for run in stored(store) if run.data.params.get("trainer.num_steps") == str(steps)]
    return any(run.data.metrics for run in runs)


def outage(outputs: Path, store: Path, moment: float, is_older: bool) -> bool:
    """A server dies in mid-run and returns, perhaps with a database that lacks what it had of the run.

    Returns whether the run said that not all was sent yet.
    """
    port = free_port()
    words = [*TINY, "trainer.num_steps=1500", "trainer.log_every=5", "progress=false"]
    with serving(store, port) as address:
        brief = ["train", *TINY, "trainer.num_steps=12", f"tracking.uri={address}"]
        ended(begin(outputs, *brief), 0)
        shutil.copy(store / "mlflow.db", store / "older.db")
        process = begin(outputs, "train", *words, f"tracking.uri={address}", first=IMPATIENT)
        wait_until(lambda: reached(store, 1500))
        time.sleep(moment)
    if is_older:
        (store / "older.db").replace(store / "mlflow.db")
        for left in store.glob("mlflow.db-*"):
            left.unlink()
    with serving(store, port) as address:
        said = ended(process, 0)
        microgpt(outputs, "sync", "--uri", address)
    return "later: microgpt sync" in said


@pytest.mark.soak
@pytest.mark.parametrize(
    ("is_older", "how"), [(False, "comes back"), (True, "returns with an older database")]
)
def test_a_server_that_dies(
    is_older: bool, how: str, outputs: Path, tmp_path: Path, noted: Noted
) -> None:
    times, count, late = 5, 0, 0
    for i in range(times):
        own, place, again = (tmp_path / f"{name}{i}" for name in ("run", "store", "again"))
        shutil.copytree(outputs, place)
        late += outage(own, place, random.Random(i).uniform(0, 1), is_older)
        place.rename(again)  # this process may have the database open that was replaced
        count += check_store(again, all_runs(own))
    seen = f"{late} of the runs said that not all was sent yet; {count:,} figures"
    noted(f"a server that dies in mid-run and {how}", times, seen)


@pytest.mark.soak
def test_a_database_that_somebody_locks(outputs: Path, tmp_path: Path, noted: Noted) -> None:
    whole = train_here(tmp_path, *STEPS, "tracking=none")[1]
    begun, seconds = time.monotonic(), 60
    with closing(sqlite3.connect(outputs / "mlflow.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        said = ended(begin(outputs, "train", *TINY, *STEPS, first=IMPATIENT), 0)
        took = time.monotonic() - begun
        time.sleep(max(0.0, seconds - took))
    sync_here(outputs)
    check_equal(all_runs(outputs), whole)
    count = check_store(outputs)
    late = "said that not all was sent yet" if "later: microgpt sync" in said else "waited"
    seen = f"the run took {took:.0f} s and {late}; {count:,} figures"
    noted(f"a database that somebody locks for {seconds} s", 1, seen)


@pytest.mark.soak
def test_two_hundred_jobs_from_two_folders(tmp_path: Path, noted: Noted) -> None:
    """Over PostgreSQL and `mlflow server`, which is killed once and comes back."""
    with shared_server() as one:
        counts = two_folders_and_a_server(one, tmp_path, 200, "many")
    seen = f"{counts[1]} jobs trained once, {counts[2]} by both; each figure and file once"
    noted("a server with PostgreSQL that dies while two folders share 200 jobs", 1, seen)


def test_the_server_is_spoilt() -> None:
    """The faulty server is what it is said to be: else nothing was tested."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with faulty(address, FAULTS["says 429"], 1.0) as uri, pytest.raises(HTTPError) as said:
            urlopen(uri, timeout=5)
    assert said.value.code == 429
    said.value.close()
