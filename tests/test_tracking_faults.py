"""Tracking where a store is down, slow or forgetful, or several write to it at once."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from signal import SIGINT
from threading import Event as Flag
from threading import Thread
from time import sleep
from typing import Any

import pytest

from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED, RUNNING
from microgpt.tracking import MLflow, open_store, sync
from microgpt.tracking.projection import Projection
from microgpt.tracking.store import experiment_id, problem
from tests.conftest import Here
from tests.running import (
    NOWHERE,
    SHORT,
    SLOWLY,
    TINY,
    history,
    kill_all,
    only_run,
    project_here,
    recorded,
    rows_of,
    running,
    start,
    store,
    stored,
    train_here,
    untracked,
    wait_until,
)


def test_two_at_once_double_nothing(outputs: Path) -> None:
    run = untracked(outputs)
    with run.locked():
        run.update(status=RUNNING, ended=None)
        uri = f"sqlite:///{outputs}/mlflow.db"
        client = open_store(uri, outputs)
        experiment = experiment_id(client, "microgpt", uri, outputs)
        both = [Projection(client, run, experiment) for _ in range(2)]
        for projection in both:
            projection._prepare(RUNNING)  # both believe that the store has nothing
        for projection in both:
            projection.update()
    assert len(stored(outputs)) == 1
    assert history(client, run.mlflow_run_id) == recorded(run)


class Forgetful:
    """A store that does what it is asked for, and whose answers are lost now and then."""

    def __init__(self, client: Any) -> None:
        self.client, self.rng = client, Random(0)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if not callable(method) or name.startswith("_"):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if self.rng.random() < 0.6 and not name.startswith(("get", "search", "list")):
                raise ConnectionError("no answer")
            return answer

        return call


def test_answers_that_are_lost_double_nothing(outputs: Path) -> None:
    run = untracked(outputs)
    project_here(run, outputs)  # what it should be
    right = {**rows_of(outputs)}
    store(outputs).delete_run(run.mlflow_run_id)
    uri = f"sqlite:///{outputs}/mlflow.db"
    client = Forgetful(open_store(uri, outputs))
    experiment = experiment_id(client.client, "microgpt", uri, outputs)
    lost = 0
    while True:
        try:
            Projection(client, run, experiment).update()  # type: ignore[arg-type]
            break
        except ConnectionError:
            lost += 1
    assert lost > 3
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert history(store(outputs), there.info.run_id) == recorded(run)
    twice = rows_of(outputs)
    for table in ("runs", "metrics", "params", "latest_metrics"):
        assert twice[table] == 2 * right[table], table  # the deleted run's are still there


def test_twins_of_a_call_that_seemed_to_fail(outputs: Path) -> None:
    run = untracked(outputs)
    uri = f"sqlite:///{outputs}/mlflow.db"
    client = open_store(uri, outputs)
    experiment = experiment_id(client, "microgpt", uri, outputs)
    project_here(run, outputs)
    (there,) = stored(outputs)
    for _ in range(2):
        client.create_run(experiment, 0, there.data.tags)
    assert len(stored(outputs)) == 3
    project_here(run, outputs)
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_a_server_that_is_down_costs_nothing_but_lateness(outputs: Path, here: Here) -> None:
    _, complained = here(outputs, "train", *TINY, *SHORT, f"tracking.uri={NOWHERE}")
    run = only_run(outputs)
    name = run.path.name
    assert complained == (
        f"microgpt: not all is in MLflow yet ({NOWHERE}: nothing answers there); "
        f"later: microgpt sync {name}\n"
    )
    assert run.status == FINISHED
    assert stored(outputs) == []
    said, complained = here(outputs, "sync", name, code=1)
    assert said == f"{name}  not sent  {NOWHERE}: nothing answers there\n"
    assert complained == "microgpt: 1 of 1 runs are not all in MLflow\n"
    uri = f"sqlite:///{outputs}/mlflow.db"
    for _ in range(2):
        list(sync([run], uri, outputs))
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    assert len(stored(outputs)) == 1


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a server that answers nothing before the test is over."""
    over = Flag()

    class Mute(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            over.wait()

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mute)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    over.set()
    server.shutdown()
    server.server_close()


def test_a_server_that_does_not_answer_does_not_hold_the_end(
    outputs: Path, mute: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MLflow, "PATIENCE", 0.5)
    code, run = train_here(outputs, *SHORT, f"tracking.uri={mute}")
    assert (code, run.status) == (0, FINISHED)
    assert f"({mute}: no end within 0.5 s); later: microgpt sync here" in capfd.readouterr().err


def test_ctrl_c_ends_the_waiting(outputs: Path, mute: str) -> None:
    with running(outputs, "train", *TINY, *SHORT, f"tracking.uri={mute}") as process:
        wait_until(lambda: any(run.status == FINISHED for run in all_runs(outputs)))
        sleep(2)  # some microseconds would do: now it waits
        process.send_signal(SIGINT)
        _, complained = process.communicate(timeout=20)
    name = only_run(outputs).path.name
    assert process.returncode == 130, complained
    assert complained == (
        f"microgpt: not all is in MLflow yet (interrupted); later: microgpt sync {name}\n"
    )


def train_at_once(outputs: Path, count: int, *words: str) -> None:
    """So many processes that log into one store: no complaint, no figure lost."""
    processes = [start(outputs, "train", *TINY, *words, f"seed={seed}") for seed in range(count)]
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
    assert [complained for _, complained in said] == [""] * count  # and no noise of MLflow's
    runs = stored(outputs)
    assert sorted(int(run.data.params["seed"]) for run in runs) == list(range(count))
    assert {run.info.status for run in runs} == {"FINISHED"}
    folders = all_runs(outputs)
    assert len(folders) == count
    for run in folders:
        assert history(store(outputs), run.mlflow_run_id) == recorded(run)


@pytest.mark.soak
def test_processes_on_a_fresh_store(tmp_path: Path) -> None:
    train_at_once(tmp_path, 2, *SHORT)


@pytest.mark.soak
def test_processes_log_into_one_store(outputs: Path) -> None:
    train_at_once(outputs, 6, "trainer.num_steps=300")


@pytest.mark.slow
def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    process = start(tmp_path, "train", *TINY, *SLOWLY, "trainer.num_steps=9000")
    wait_until((tmp_path / ".mlflow.db.new").exists)
    kill_all(process)
    assert not (tmp_path / "mlflow.db").exists()
    run = train_here(tmp_path, *SHORT)[1]
    assert history(store(tmp_path), run.mlflow_run_id) == recorded(run)


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("Max retries exceeded with url: /x (Caused by NameResolutionError('no'))", "no such host"),
        ("Max retries exceeded (Caused by ConnectTimeoutError('late'))", "no answer in time"),
        ("Max retries exceeded with url: /x (Caused by SSLError(7))", "it cannot be reached"),
    ],
)
def test_what_the_network_says_is_told_in_plain_words(said: str, meaning: str) -> None:
    assert problem(ConnectionError(f"HTTPConnectionPool(host='h'): {said}")) == meaning
