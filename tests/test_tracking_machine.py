"""How busy the machine is, beside the figures of a run that asks for it."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.entities import Metric

from microgpt.ablation.records.record import Store
from microgpt.build import part
from microgpt.run.folder import RunFolder
from microgpt.run.identity import signature
from microgpt.run.record import FINISHED, RUNNING
from microgpt.tracking import open_store, sync
from microgpt.tracking.machine import Machine, processors
from microgpt.tracking.sender import Sending
from microgpt.tracking.sync import Store as Tracked
from microgpt.train import code_of
from tests.running import (
    SLOWLY,
    TINY,
    children,
    history,
    kill,
    project_here,
    recorded,
    rows_of,
    running,
    store,
    untracked,
    wait_until,
)

MLFLOW = {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "microgpt"}
NAMES = {
    *("cpu_utilization_percentage", "system_memory_usage_megabytes"),
    *("disk_usage_percentage", "network_receive_megabytes"),
}


def asking(outputs: Path, system_metrics: bool) -> RunFolder:
    """A finished run that no store knows."""
    run = untracked(outputs)
    run.set_config(run.config | {"tracking": MLFLOW | {"system_metrics": system_metrics}})
    return run


def under_way(run: RunFolder, outputs: Path) -> dict[str, list[tuple[int, float]]]:
    """What the store has of a run that it saw twice under way, and at its end."""
    with run.locked():
        run.update(status=RUNNING, ended=None)
        projection = project_here(run, outputs, Machine(processors()))
        time.sleep(0.05)
        projection.update()
    run.update(status=FINISHED, ended=time.time())
    projection.update()
    return history(store(outputs), projection.run_id)


def test_the_store_has_them_of_a_run_that_asks(outputs: Path) -> None:
    run = asking(outputs, True)
    there = under_way(run, outputs)
    added = {f"system/{name}" for name in NAMES}
    assert added <= there.keys()
    assert {name: there[name] for name in recorded(run)} == recorded(run)
    ((step, share),) = there["system/cpu_utilization_percentage"][:1]
    assert step in range(1000)
    assert 0 <= share <= 100
    # They are no figures of the run: what is compared and verified has none.
    reader = Store(None, outputs)
    series = reader.series(reader.find(run.mlflow_run_id))
    assert series.keys() == {name for name in recorded(run) if not name.startswith("cost/")}
    before = rows_of(outputs)
    assert [sent.problem for sent in sync([run], None, outputs)] == [None]
    assert rows_of(outputs) == before


def test_a_run_that_is_over_before_the_store_is_met_has_one_reading(outputs: Path) -> None:
    run = asking(outputs, True)
    sending = Sending(Tracked(f"sqlite:///{outputs}/mlflow.db", outputs), run, "microgpt")
    sending.go_on()
    assert sending.over.is_set()
    there = history(store(outputs), run.mlflow_run_id)
    assert {name: len(there[f"system/{name}"]) for name in NAMES} == dict.fromkeys(NAMES, 1)


def test_a_store_that_fails_once_changes_no_reading(outputs: Path) -> None:
    """What is counted since the run began goes on, and a second has one reading."""
    run = asking(outputs, True)
    tracked = Tracked(f"sqlite:///{outputs}/mlflow.db", outputs)
    sending = Sending(tracked, run, "microgpt")
    client, failures = open_store(tracked.uri, outputs), [ConnectionError("it starts again")]

    class Once:
        """A client that fails once, when it has sent all but the end."""

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def set_terminated(self, *args: Any, **others: Any) -> None:
            if failures:
                raise failures.pop()
            client.set_terminated(*args, **others)

    tracked._client = Once()  # type: ignore[assignment]
    sending.go_on()
    assert sending.problem is not None
    counting = sending._machine
    assert counting is not None
    sending.go_on()
    assert sending.over.is_set()
    assert sending._machine is counting
    there = history(store(outputs), run.mlflow_run_id)["system/cpu_utilization_percentage"]
    assert len({step for step, _ in there}) == len(there)


def test_a_run_that_does_not_ask_has_none(outputs: Path) -> None:
    run = asking(outputs, False)
    assert under_way(run, outputs) == recorded(run)


def test_sync_measures_nothing(outputs: Path) -> None:
    run = asking(outputs, True)
    assert [sent.problem for sent in sync([run], None, outputs)] == [None]
    assert history(store(outputs), run.mlflow_run_id) == recorded(run)


def test_the_key_changes_no_identity(outputs: Path) -> None:
    run = untracked(outputs)
    configs = [run.config | {"tracking": MLFLOW | key} for key in ({}, {"system_metrics": True})]
    assert len({signature(config, "d", "exact") for config in configs}) == 1
    assert code_of(configs[0]) == code_of(configs[1])
    assert part(configs[0], "tracking")  # of a run from before the key


def test_the_processors_are_counted_since_the_last_reading_of_the_same_run() -> None:
    """Another run's reading, in the same thread, must not take them."""

    def share(readings: list[Metric]) -> float:
        return {each.key: each.value for each in readings}["system/cpu_utilization_percentage"]

    one, other, begun = Machine(processors()), Machine(processors()), time.time()
    end = time.monotonic() + 0.2
    while time.monotonic() < end:  # keep one of the processors busy
        pass
    assert abs(share(one.metrics(begun)) - share(other.metrics(begun))) < 30
    assert one.metrics(begun) == []  # one reading a second


@pytest.mark.slow
def test_a_sweep_whose_launcher_is_killed(outputs: Path) -> None:
    """Its runs have readings, and nothing is left that makes more."""
    words = ["tracking.system_metrics=true", "hydra.launcher.workers=2", "trainer.num_steps=9000"]

    def have_readings() -> bool:
        runs = children(outputs)
        return len(runs) == 2 and all(
            "system/cpu_utilization_percentage" in run.data.metrics for run in runs
        )

    with running(outputs, "train", "-m", *TINY, *SLOWLY, *words, "seed=1,2") as process:
        wait_until(have_readings)
        ours = psutil.Process(process.pid).children(recursive=True)
        kill(process)
    assert not psutil.wait_procs(ours, 60)[1]
