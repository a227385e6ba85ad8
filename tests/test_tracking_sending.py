"""Folders on their way to a store: one that fails, ones that several send, ones that change hands."""

import pickle
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import sleep, time
from typing import Any

import pytest
from mlflow.entities import Metric

from microgpt.core.events import Stepped
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED, KILLED, RUNNING
from microgpt.tracking import open_store
from microgpt.tracking.sender import Sender, Sending
from microgpt.tracking.sending import Service
from microgpt.tracking.store import one_sends
from microgpt.tracking.sync import Store
from tests.running import (
    history,
    recorded,
    store,
    stored,
    untracked,
    wait_until,
)


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
    monkeypatch.setattr("microgpt.tracking.sender.one_sends", slow)
    service, uri = Service(), f"sqlite:///{outputs}/mlflow.db"
    service.add(uri, outputs, "microgpt", run)
    wait_until(lambda: tries)
    assert service.flush(uri) is None
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_what_two_processes_ask_for_is_sent_once(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of a sweep its launcher asks for each run that its workers' store has not yet."""
    run, project, asked = untracked(outputs), Store.project, Event()
    projected: list[Path] = []

    def slow(store: Store, folder: RunFolder, experiment: str) -> Any:
        assert asked.wait(100)
        projected.append(folder.path)
        return project(store, folder, experiment)

    monkeypatch.setattr(Store, "project", slow)
    senders: dict[str, Sender] = {}
    worker, launcher = Service(senders), Service(senders)
    for service in (worker, launcher):
        service.add(f"sqlite:///{outputs}/mlflow.db", outputs, "microgpt", run)
        assert service.left() == 1
    asked.set()
    assert launcher.flush() is None
    assert (worker.left(), launcher.left(), projected) == (0, 0, [run.path])
    assert [there.info.status for there in stored(outputs)] == ["FINISHED"]


def test_a_run_that_changes_hands_is_sent_by_who_has_it(outputs: Path) -> None:
    """A worker is killed, and another goes on with its job before the first is known to be gone."""
    run, senders = untracked(outputs), dict[str, Sender]()
    killed, other = Service(senders), Service(senders)
    with run.locked():
        run.update(status=RUNNING, ended=None)
        for service in (killed, other):
            service.add(f"sqlite:///{outputs}/mlflow.db", outputs, "microgpt", run)
        killed.end()
        assert (killed.left(), other.left()) == (0, 1)
        run.update(status=FINISHED, ended=time())
    assert other.flush() is None
    (there,) = stored(outputs)
    assert there.info.status == "FINISHED"
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


def test_what_waits_is_small(tmp_path: Path) -> None:
    """Thousands of runs may wait, where they are trained faster than the store takes them."""
    count, where = 1000, Store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    asked = [pickle.dumps(RunFolder(tmp_path / f"outputs/runs/{i:021}")) for i in range(count)]
    tracemalloc.start()
    try:
        waiting = [Sending(where, pickle.loads(folder), "microgpt") for folder in asked]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(waiting) == count
    assert size / count < 1000  # bytes; with what it needs once it is sent, 1,400
