"""The process that sends to a store, where it, the one that works, or both are killed, stopped or late."""

from multiprocessing.connection import Client, Listener
from pathlib import Path
from signal import SIGINT, SIGTERM
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED, STOPPED
from microgpt.tracking import MLflow, SendingProcess, open_store
from microgpt.tracking.patience import Patience
from microgpt.tracking.process import Trouble
from microgpt.tracking.projection import Projection
from microgpt.tracking.sender import Sending
from microgpt.tracking.store import experiment_id
from microgpt.tracking.sync import Store
from tests.running import (
    FACTS,
    NOWHERE,
    SHORT,
    SLOWLY,
    TINY,
    has_stored,
    history,
    kill,
    only_run,
    project_here,
    recorded,
    running,
    start,
    store,
    stored,
    train_here,
    untracked,
    wait_until,
)


def test_the_process_that_sends_is_killed(outputs: Path) -> None:
    """Memory may run out: the training goes on, and says in the end what is missing."""
    with running(outputs, "train", *TINY, *SLOWLY, "trainer.num_steps=20000") as process:
        wait_until(lambda: has_stored(outputs, 10))
        (sender,) = psutil.Process(process.pid).children()
        sender.kill()
        reached = len(only_run(outputs).metrics())
        wait_until(lambda: len(only_run(outputs).metrics()) > reached + 20)
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
    with running(outputs, "train", *TINY, *SLOWLY, "trainer.num_steps=20000") as process:
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


def test_the_next_run_has_another_process_that_sends(outputs: Path) -> None:
    train_here(outputs, *SHORT, name="first")
    sender = SendingProcess.beside()._child
    assert sender is not None
    sender.kill()
    sender.wait(20)
    _, run = train_here(outputs, *SHORT, name="second")
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_the_process_that_sends_is_small(outputs: Path) -> None:
    """It has no libraries for data frames, which MLflow does not need to send."""
    train_here(outputs, *SHORT)
    sender = SendingProcess.beside()._child
    assert sender is not None
    files = [Path(each.path) for each in psutil.Process(sender.pid).memory_maps()]
    assert any("_sqlite3" in file.name for file in files)
    assert not {"numpy", "pandas", "pyarrow"} & {part for file in files for part in file.parts}


def test_one_process_sends_for_others_too(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the launcher's does for the workers of a sweep, until it is no more."""
    first = SendingProcess()
    assert first._child is not None
    monkeypatch.setattr(SendingProcess, "_beside", None)
    wait_until(Path(first.place).exists)
    SendingProcess.offer(first.place)
    _, run = train_here(outputs, *SHORT, name="guest")
    guest = SendingProcess.beside()
    assert guest._child is None
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    first._child.kill()
    wait_until(lambda: guest.ended)
    _, run = train_here(outputs, *SHORT, name="alone")
    assert SendingProcess.beside()._child is not None
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)
    SendingProcess.offer(None)
    wait_until(lambda: not Path(first.place).parent.exists())


def test_what_others_may_write_to_is_not_joined(tmp_path: Path) -> None:
    """Who answers where another user may have put something could have anything executed."""
    with TemporaryDirectory() as open_to_all:  # a socket's path is short
        Path(open_to_all).chmod(0o755)
        place = f"{open_to_all}/sending"
        with Listener(place, "AF_UNIX"):
            asking = SendingProcess(place)
            assert asking._child is not None
            assert asking.place != place
            asking._child.kill()
        Path(open_to_all).chmod(0o700)
    alone = SendingProcess(f"{tmp_path}/nothing/sending")
    assert alone._child is not None
    alone._child.kill()


def test_what_a_guest_leaves_is_sent(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is killed: the launcher's process learns of it at once, and may wait for it."""
    first = SendingProcess()
    wait_until(Path(first.place).exists)
    run = untracked(outputs)
    uri = f"sqlite:///{outputs}/mlflow.db"
    with Client(first.place, "AF_UNIX") as guest:
        guest.send((0, "add", (uri, outputs, "microgpt", run)))
    wait_until(lambda: first.ask("left").result(100))
    assert first.ask("flush", uri).result(100) is None
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_a_short_run_is_sent_in_few_calls(outputs: Path) -> None:
    run = untracked(outputs)
    calls: list[str] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            if callable(getattr(client, name)):
                calls.append(name)
            return getattr(client, name)

    uri = f"sqlite:///{outputs}/mlflow.db"
    client = open_store(uri, outputs)
    experiment = experiment_id(client, "microgpt", uri, outputs)
    made = new_run(outputs, run.config)
    for folder, asked in ((run, ["search_runs"]), (made, [])):
        Projection(Counting(), folder, experiment).update()  # type: ignore[arg-type]
        assert calls == [
            *(*asked, "create_run", *(["log_inputs"] if folder is run else [])),
            *("log_batch", "set_terminated"),  # between them the files, by their address
        ]
        calls.clear()


def new_run(outputs: Path, config: dict[str, Any]) -> RunFolder:
    """A folder that was just made, of a run that nobody trained."""
    made = RunFolder(outputs / "runs/made")
    made.create(config, [], "", **FACTS)
    made.update(status=FINISHED, ended=1.0)
    return made


def test_a_new_run_that_seemed_not_to_be_made(outputs: Path) -> None:
    """Its folder cannot be in a store that was never asked; after a call that failed, it can."""
    made = new_run(outputs, untracked(outputs).config)

    class Lost:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def create_run(self, *args: Any, **kwargs: Any) -> None:
            client.create_run(*args, **kwargs)
            raise ConnectionError("no answer")

    client = open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
    sending = Sending(Store(f"sqlite:///{outputs}/mlflow.db", outputs), made, "microgpt")
    for sending.store._client in (Lost(), client):  # type: ignore[assignment]
        sending.go_on()
    assert sending.over.is_set()
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_a_run_that_is_killed_has_failed_at_once(outputs: Path) -> None:
    process = start(outputs, "train", *TINY, *SLOWLY, "trainer.num_steps=9000")
    wait_until(lambda: has_stored(outputs, 10))
    (sender,) = psutil.Process(process.pid).children()
    kill(process)
    sender.wait(100)  # of its own accord
    run = only_run(outputs)
    (there,) = stored(outputs)
    assert there.info.status == "FAILED"
    assert there.data.tags["reason"] == "its process was killed"
    assert history(store(outputs), there.info.run_id) == recorded(run)


def test_more_is_asked_than_a_socket_holds(outputs: Path) -> None:
    """A sweep of thousands of runs, all unknown to the store, as it ends."""
    run = untracked(outputs)
    tracking = MLflow(uri=NOWHERE, experiment="microgpt")
    tracking.start(run, outputs)
    asking = Thread(target=lambda: [tracking.add(run) for _ in range(3000)], daemon=True)
    asking.start()
    asking.join(100)
    assert not asking.is_alive()
    assert tracking.finish() == f"{NOWHERE}: nothing answers there"


def test_the_last_words_of_a_process_that_sends_are_told() -> None:
    process = SendingProcess()
    said = "the process that sends ended \\(exit code 1\\): TypeError: Service.add\\(\\) missing"
    with pytest.raises(Trouble, match=said):
        process.ask("add").result(100)


def test_what_fails_is_tried_at_longer_and_longer_intervals() -> None:
    patience = Patience()
    assert patience.is_due(False)
    for pause in (2, 4, 8, 16, 32, 60, 60):
        patience.note("nothing answers there", monotonic())
        assert patience._pause == pause
        assert not patience.is_due(False)
        sleep(0.001)
        assert patience.is_due(True), "it failed at once: who waits may try again"
    patience.note("no answer", monotonic() - 5)
    assert not patience.is_due(True), "it was waited for, and is not again so soon"
    patience.note(None, monotonic())
    assert patience.is_due(False)


def test_a_process_that_sends_and_cannot_be_started(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(SendingProcess, "_beside", None)
    monkeypatch.setattr("microgpt.tracking.process.start_module", refuse)
    code, run = train_here(outputs, *SHORT)
    assert (code, run.status) == (0, FINISHED)
    problem = "the process that sends could not be started: Resource temporarily unavailable"
    assert f"{problem}); later: microgpt sync here" in capfd.readouterr().err
