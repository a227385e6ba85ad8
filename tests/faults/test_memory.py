"""What lives long, or is called again and again, does not grow."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, cycle
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

import microgpt
from microgpt.run.folder import all_runs
from microgpt.run.record import FINISHED
from microgpt.ui import free_port
from tests.browser.bench import ui
from tests.faults.conftest import Noted
from tests.faults.memory import Look, command, grown, look, looks_at, repeated
from tests.faults.whole import begin, check_store
from tests.running import TINY, stored, train_here, untracked
from tests.sweeps import heads, log_sweep
from tests.test_judge import TINY as JUDGED
from tests.test_serving import ask, registered, server, texts  # noqa: F401

pytestmark = [
    pytest.mark.soak,
    pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning"),  # MLflow's own
]
BRIEF = ["trainer.num_steps=30", "engine=native", "data.val_fraction=0.2"]


def asked(times: int, top: psutil.Process, one: Callable[[], None]) -> list[Look]:
    """A look after each tenth of so many requests."""
    found = []
    for i in range(times):
        one()
        if i % 10 == 9:
            found.append(look(top))
    return found


def pages(address: str, outputs: Path) -> Iterator[Request]:
    """What a browser asks of the UI, over and over: its files, runs, curves and artifacts."""
    api = f"{address}/ajax-api/2.0/mlflow"
    (run,) = stored(outputs)
    content = {"experiment_ids": [run.info.experiment_id], "max_results": 100}
    head = {"Content-Type": "application/json"}
    which = f"run_id={run.info.run_id}&run_uuid={run.info.run_id}"
    return cycle(
        [
            Request(address),
            Request(f"{api}/experiments/search?max_results=25"),
            Request(f"{api}/runs/search", json.dumps(content).encode(), head),
            Request(f"{api}/runs/get?{which}"),
            Request(f"{api}/metrics/get-history?{which}&metric_key=train%2Floss"),
            Request(f"{api}/artifacts/list?{which}"),
            Request(f"{address}/get-artifact?{which}&path=config.yaml"),
        ]
    )


def test_the_ui(outputs: Path, noted: Noted) -> None:
    train_here(outputs, *BRIEF)
    with ui(outputs, "--port", str(free_port(5100))) as (shown, process):
        asks = pages(shown.partition("/#")[0], outputs)

        def one() -> None:
            with urlopen(next(asks), timeout=60) as answer:
                assert answer.read()

        looks = asked(1000, psutil.Process(process.pid), one)
    noted("memory of `microgpt ui`: requests", 1000, grown(looks))


def test_a_served_model(server: str, noted: Noted) -> None:  # noqa: F811
    (top,) = [each for each in psutil.Process().children() if "serve" in each.cmdline()]
    seeds, tasks = count(), cycle(["generate", "score"])

    def one() -> None:
        status, said = ask(server, texts("mar", seed=next(seeds), task=next(tasks)))
        assert status == 200, said

    noted("memory of `mlflow models serve`: requests", 300, grown(asked(300, top, one)))


def test_a_verification(tmp_path: Path, noted: Noted) -> None:
    # All models of this experiment have one shape: runs of another shape would take more memory.
    looks, said = looks_at(begin(tmp_path, "verify", "learning_rate", "--sample", "200"), 0)
    assert said.count("bit-exact") == 200
    noted("memory of `microgpt verify learning_rate --sample 200`: runs", 200, grown(looks))


def test_a_judgement(outputs: Path, noted: Noted) -> None:
    words = ["", "seed=1000", "model.n_embd=2", *JUDGED, "--matters", "1e-6", "--most", "60"]
    looks, _ = looks_at(begin(outputs, "judge", *words, "--workers", "2"), 12)
    assert [run.status for run in all_runs(outputs)] == [FINISHED] * 120
    noted("memory of `microgpt judge`: runs", 120, grown(looks))


def test_looks_inside(outputs: Path, noted: Noted) -> None:
    train_here(outputs, *BRIEF)
    looks = repeated(60, partial(command, outputs, ["inspect", "here", "--prompt", "anna"]))
    noted("memory of `microgpt inspect`, in one process: times", 60, grown(looks))


def test_reports(outputs: Path, tmp_path: Path, noted: Noted) -> None:
    log_sweep(outputs, heads())
    words = ["report", "heads", "--out", str(tmp_path / "reports")]
    looks = repeated(20, partial(command, outputs, words))
    noted("memory of `microgpt report`, in one process: times", 20, grown(looks))


def test_runs_that_are_sent(outputs: Path, noted: Noted) -> None:
    for i in range(60):
        untracked(outputs, *BRIEF, name=f"run{i}")
    looks = repeated(60, partial(command, outputs, ["sync", "run{}"]))
    check_store(outputs)
    noted("memory of `microgpt sync` of a run, in one process: times", 60, grown(looks))


def trained(outputs: Path, number: int) -> None:
    """`microgpt.train`, as in a notebook."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MICROGPT_OUTPUTS", str(outputs))
        assert microgpt.train([*TINY, *BRIEF, f"seed={number}"]).status == "finished"


def test_training_from_python(outputs: Path, noted: Noted) -> None:
    looks = repeated(100, partial(trained, outputs))
    assert len(stored(outputs)) == 100
    noted("memory of `microgpt.train`, in one process: times", 100, grown(looks))
