"""Tracking where a store is down, slow or forgetful, or several write to it at once."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from signal import SIGINT, SIGTERM
from threading import Event as Flag
from threading import Thread
from time import sleep, time
from typing import Any

import psutil
import pytest
from mlflow.entities import Metric

from microgpt.core.events import Stepped
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FINISHED, KILLED, RUNNING, STOPPED
from microgpt.tracking import MLflow, SendingProcess, open_store, sync
from microgpt.tracking.projection import Projection
from microgpt.tracking.sending import Sending, Service
from microgpt.tracking.store import experiment_id, one_sends
from microgpt.tracking.sync import Store
from tests.running import (
    NOWHERE,
    SHORT,
    TINY,
    has_stored,
    history,
    kill,
    kill_all,
    microgpt,
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

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            if self.rng.random() < 0.3 and not name.startswith(("get", "search", "list")):
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
    for _ in range(3):
        client.create_run(experiment, 0, {"microgpt.id": run.path.name})
    assert len(stored(outputs)) == 3
    project_here(run, outputs)
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_a_server_that_is_down_costs_nothing_but_lateness(outputs: Path) -> None:
    said, complained = start(
        outputs, "train", *TINY, *SHORT, f"tracking.uri={NOWHERE}"
    ).communicate(timeout=100)
    run = only_run(outputs)
    name = run.path.name
    assert complained == (
        f"microgpt: not all is in MLflow yet ({NOWHERE}: nothing answers there); "
        f"later: microgpt sync {name}\n"
    )
    assert run.status == FINISHED
    assert stored(outputs) == []
    said, complained = microgpt(outputs, "sync", name, code=1)
    assert said == f"{name}  finished  {NOWHERE}: nothing answers there\n"
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
    assert process.returncode == 130
    assert complained == (
        f"microgpt: not all is in MLflow yet (interrupted); later: microgpt sync {name}\n"
    )


def test_the_process_that_sends_is_killed(outputs: Path) -> None:
    """Memory may run out: the training goes on, and says in the end what is missing."""
    with running(outputs, "train", *TINY, "trainer.num_steps=20000") as process:
        wait_until(lambda: has_stored(outputs, 10))
        (sender,) = psutil.Process(process.pid).children()
        sender.kill()
        reached = len(only_run(outputs).metrics())
        wait_until(lambda: len(only_run(outputs).metrics()) > reached + 100)
        process.send_signal(SIGINT)
        _, complained = process.communicate(timeout=100)
    run = only_run(outputs)
    assert (process.returncode, run.status) == (130, STOPPED)
    assert complained == (
        f"microgpt: not all is in MLflow yet (sqlite:///{outputs}/mlflow.db: "
        f"the process that sends was killed (signal 9)); later: microgpt sync {run.path.name}\n"
    )
    project_here(run, outputs)
    assert [there.info.status for there in stored(outputs)] == ["KILLED"]
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_all_processes_of_a_job_are_told_to_stop(outputs: Path) -> None:
    """As by systemd, or a batch system."""
    with running(outputs, "train", *TINY, "trainer.num_steps=20000") as process:
        wait_until(lambda: has_stored(outputs, 10))
        (sender,) = psutil.Process(process.pid).children()
        for number in (SIGTERM, SIGINT):
            sender.send_signal(number)
        process.send_signal(SIGTERM)
        _, complained = process.communicate(timeout=100)
    assert (process.returncode, complained) == (128 + SIGTERM, "")
    run = only_run(outputs)
    assert run.status == STOPPED
    assert [there.info.status for there in stored(outputs)] == ["KILLED"]
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_what_failed_once_is_not_told_when_all_is_there(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, project, tries = untracked(outputs), Store.project, []

    def hiccup(store: Store, *words: Any) -> Any:
        tries.append(words)
        if len(tries) == 1:
            raise ConnectionError("it starts again")
        return project(store, *words)

    @contextmanager
    def slow(folder: RunFolder) -> Iterator[None]:
        with one_sends(folder):
            yield
        sleep(0.3)

    monkeypatch.setattr(Store, "project", hiccup)
    monkeypatch.setattr("microgpt.tracking.sending.one_sends", slow)
    service, uri = Service(), f"sqlite:///{outputs}/mlflow.db"
    service.add(uri, outputs, "microgpt", run)
    wait_until(lambda: tries)
    assert service.flush(uri) is None
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_the_next_run_has_another_process_that_sends(outputs: Path) -> None:
    train_here(outputs, *SHORT, name="first")
    sender = SendingProcess.beside()._child
    sender.kill()
    sender.wait(20)
    _, run = train_here(outputs, *SHORT, name="second")
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_a_run_that_is_killed_has_failed_at_once(outputs: Path) -> None:
    process = start(outputs, "train", *TINY, "trainer.num_steps=9000")
    wait_until(lambda: has_stored(outputs, 10))
    (sender,) = psutil.Process(process.pid).children()
    kill(process)
    sender.wait(100)  # of its own accord
    run = only_run(outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FAILED"
    assert there.data.tags["reason"] == "its process was killed"
    assert history(store(outputs), there.info.run_id) == recorded(run)


def test_a_resume_while_figures_of_the_killed_run_are_sent(outputs: Path) -> None:
    """The store gets each figure once, and says how it ended in the end."""
    run = untracked(outputs)
    run.update(status=RUNNING, ended=None)
    assert run.status == KILLED
    uri = f"sqlite:///{outputs}/mlflow.db"
    left, resumed = (Sending(Store(uri, outputs), run, "microgpt") for _ in range(2))
    left.ended.set()  # its process is no more

    def resume() -> None:
        again = run.metrics()[5:]
        with run.locked():
            run.rewind(5)
            run.update(status=RUNNING)
            resumed.go_on()
            for row in again:
                figures = row | {"cost/seconds": row["cost/seconds"] + 100}
                run(Stepped(int(row["step"]), 0.0, 0, figures))
            run.update(status=FINISHED, ended=time())
            resumed.go_on()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def log_batch(self, *args: Any, metrics: Sequence[Metric] = (), **others: Any) -> None:
            if metrics:
                thread.start()
                sleep(0.5)
            client.log_batch(*args, metrics=metrics, **others)

    thread = Thread(target=resume)
    client = open_store(uri, outputs)
    left.store._client = Slow()  # type: ignore[assignment]
    left.go_on()
    thread.join(60)
    left.go_on()
    assert left.over.is_set()
    assert resumed.over.is_set()
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
    assert "reason" not in there.data.tags
    for name, figures in history(store(outputs), there.info.run_id).items():
        steps = [step for step, _ in figures]
        assert steps == [step for step, _ in recorded(run)[name]], name


def test_more_is_asked_than_a_socket_holds(outputs: Path) -> None:
    """A sweep of thousands of runs, all unknown to the store, as it ends."""
    run = untracked(outputs)
    tracking = MLflow(uri=NOWHERE, experiment="microgpt")
    tracking.start(run, outputs)
    for _ in range(3000):
        tracking.add(run)
    assert tracking.finish() == f"{NOWHERE}: nothing answers there"


def test_a_process_that_sends_and_cannot_be_started(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(SendingProcess, "_beside", None)
    monkeypatch.setattr(SendingProcess, "_start", refuse)
    code, run = train_here(outputs, *SHORT)
    assert (code, run.status) == (0, FINISHED)
    problem = "the process that sends could not be started: Resource temporarily unavailable"
    assert f"{problem}); later: microgpt sync here" in capfd.readouterr().err


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


@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_on_a_fresh_store(count: int, tmp_path: Path) -> None:
    train_at_once(tmp_path, count, *SHORT)


@pytest.mark.slow
def test_sixteen_processes_log_into_one_store(outputs: Path) -> None:
    train_at_once(outputs, 16, "trainer.num_steps=500")


def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    process = start(tmp_path, "train", *TINY, "trainer.num_steps=9000")
    wait_until((tmp_path / ".mlflow.db.new").exists)
    kill_all(process)
    assert not (tmp_path / "mlflow.db").exists()
    run = train_here(tmp_path, *SHORT)[1]
    assert history(store(tmp_path), run.mlflow_run_id) == recorded(run)
