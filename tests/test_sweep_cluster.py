"""A sweep on a Dask cluster that was started by hand: workers come late, and die."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import dedent
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from distributed import Client

from microgpt.run.folder import all_runs
from microgpt.run.record import RUNNING
from microgpt.sweep.cluster import is_open
from tests.running import (
    NAMES,
    REPOSITORY,
    TINY,
    figures,
    microgpt,
    running,
    stored,
    train_here,
    wait_until,
)
from tests.schedules import GATE

PAGE = REPOSITORY / "docs/cluster.md"


@contextmanager
def dask(program: str, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of a cluster, for the time of the block."""
    own = ["--host", "127.0.0.1", "--no-dashboard"]
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{program}", *own, *words],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        cwd="/",  # not where the command is given, which relative paths are from
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def scheduler(place: Path, *words: str) -> Iterator[str]:
    """A scheduler, whose address is also in the file `place`."""
    with dask("scheduler", "--port", "0", "--scheduler-file", str(place), *words):
        wait_until(lambda: address_in(place))
        yield address_in(place)


def address_in(place: Path) -> str:
    """The address in a scheduler's file; empty while the file is not there, or not yet whole."""
    try:
        return str(json.loads(place.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):
        return ""


def at_work(outputs: Path) -> int:
    """How many jobs have recorded steps and go on."""
    return sum(run.status == RUNNING and run.metrics() != [] for run in all_runs(outputs))


@pytest.mark.soak
def test_a_cluster_of_workers_that_come_and_go(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ["trainer.num_steps=200", "trainer.eval_every=0", "trainer.checkpoint_every=10"]
    steps += ["schedule=constant", "schedule._target_=tests.schedules.Held"]
    monkeypatch.setenv(GATE, str(gate := tmp_path / "gate"))
    gate.touch()  # jobs go on slowly, until both workers have one and one is killed
    with ExitStack() as stack:
        place = tmp_path / "scheduler.json"
        address = stack.enter_context(scheduler(place))
        worker = ["--scheduler-file", str(place), "--nthreads", "1", "--no-nanny"]
        stack.enter_context(dask("worker", *worker))
        words = ["train", "-m", *TINY, f"data.path={NAMES.name}", *steps, "seed=range(5)"]
        words += [f"hydra.launcher.address={address}"]
        launcher = stack.enter_context(running(outputs, *words, cwd=NAMES.parent))
        wait_until(lambda: at_work(outputs) == 1 or launcher.poll() is not None)
        late = stack.enter_context(dask("worker", *worker))
        wait_until(lambda: at_work(outputs) == 2 or launcher.poll() is not None)
        late.kill()
        gate.unlink()
        said = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, said
    assert "5 jobs: 5 finished" in said[0]
    assert [run.info.status for run in stored(outputs)] == ["FINISHED"] * 6
    for run in all_runs(outputs):
        seed = run.config["seed"]
        _, alone = train_here(tmp_path, *steps, f"seed={seed}", "tracking=none", name=str(seed))
        assert figures(run) == figures(alone)


@pytest.mark.slow
def test_ctrl_c_where_a_worker_is_paused(outputs: Path, tmp_path: Path) -> None:
    """Dask pauses a worker above a part of its memory, and gives it back its jobs never."""
    long = [*TINY, "trainer.num_steps=100000", "trainer.eval_every=0", "seed=range(6)"]
    with ExitStack() as stack:
        place = tmp_path / "scheduler.json"
        address = stack.enter_context(scheduler(place))
        worker = ["--scheduler-file", str(place), "--nthreads", "1", "--no-nanny"]
        stack.enter_context(dask("worker", *worker, "--memory-limit", "100MB"))
        words = ["train", "-m", *long, f"hydra.launcher.address={address}", "tracking=none"]
        launcher = stack.enter_context(running(outputs, *words))
        with Client(address) as client:
            wait_until(lambda: "paused" in statuses(client) or launcher.poll() is not None)
        launcher.send_signal(signal.SIGINT)
        said, complained = launcher.communicate(timeout=60)
    assert (launcher.returncode, complained) == (130, "")
    assert "stopped; go on with the same command: " in said


def statuses(client: Client) -> list[str]:
    return [worker["status"] for worker in client.scheduler_info()["workers"].values()]


@pytest.mark.slow
def test_a_scheduler_that_dies(outputs: Path, tmp_path: Path) -> None:
    """The sweep ends with a line, and the same command can go on."""
    place = tmp_path / "at.json"
    with dask("scheduler", "--port", "0", "--scheduler-file", str(place)) as process:
        wait_until(lambda: address_in(place))
        own = ["tracking=none", f"hydra.launcher.address={address_in(place)}"]
        with running(outputs, "train", "-m", *TINY, "seed=1,2", *own) as sweep:
            wait_until(lambda: [*outputs.glob("sweeps/*/sweep.json")])
            time.sleep(1)  # for the jobs to be on their way
            process.kill()
            _, complained = sweep.communicate(timeout=100)
    assert sweep.returncode == 2, complained
    assert re.fullmatch(
        r"microgpt: hydra.launcher.address=\S+: the scheduler is gone; .*\n", complained
    )


@pytest.mark.slow
def test_a_cluster_with_keys(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of the page: keys by one, and one file for all. Nobody comes in without them."""
    page = PAGE.read_text()
    commands = dedent(page[page.index("    (umask") : page.index("\nDask reads this")])
    keys = tmp_path / ".config/dask"
    monkeypatch.setenv("HOME", str(tmp_path))
    subprocess.run(["bash", "-euc", commands], check=True, capture_output=True)
    assert sorted(file.name for file in keys.iterdir()) == ["cert.pem", "key.pem", "tls.yaml"]
    assert {file.stat().st_mode & 0o077 for file in keys.iterdir()} == {0}
    lines = [line.partition("#")[0] for line in page.splitlines()]
    told = [line.split() for line in lines if line.startswith(("    dask", "    microgpt"))]
    (_, first, *its), (_, second, _, *own), (_, *words) = told
    with (
        scheduler(tmp_path / "at.json", *its) as address,
        dask(second, address, *own, "--no-nanny"),
    ):
        assert (first, address[:6]) == ("scheduler", "tls://")
        port = json.loads((tmp_path / "at.json").read_text())["services"]["dashboard"]
        for path in ("status", "info/main/workers.html", "json/identity.json", "metrics"):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"http://127.0.0.1:{port}/{path}")
        words[words.index("experiment=heads")] = "seed=1,2"  # quicker
        words[1:1] = [*TINY, "trainer.num_steps=2", "tracking=none"]
        words[-1] = words[-1].replace("tls://HOST:8786", address)
        said, complained = microgpt(outputs, *words)
        assert (complained, "2 jobs: 2 finished" in said) == ("", True)
        monkeypatch.setenv("HOME", "/nowhere")  # another user
        for other in (address, address.replace("tls://", "tcp://")):
            words[-1] = f"hydra.launcher.address={other}"
            _, complained = microgpt(outputs, *words, "seed=3,4", code=2)
            assert re.fullmatch(rf"microgpt: hydra.launcher.address={other}: .*\n", complained)
            ask = [
                sys.executable,
                "-c",
                f"import distributed\ndistributed.Client({other!r}, timeout=3)",
            ]
            asked = subprocess.run(ask, capture_output=True, text=True, check=False)
            assert re.search(
                r"(OSError|TypeError|CommClosedError): ", asked.stderr, re.MULTILINE
            ), asked.stderr


def test_addresses_that_others_can_reach() -> None:
    closed = ["tls://10.0.0.1:8786", "tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:1"]
    assert not any(map(is_open, [*closed, "localhost:8786"]))
    assert all(map(is_open, ["tcp://10.0.0.1:8786", "node1:8786", "tcp://[fe80::1]:1", "node1"]))
    assert all(map(is_open, ["ws://10.0.0.1:8786", "ucx://10.0.0.1:8786"]))  # without keys, too
