"""`microgpt ui`, short of a browser: the view it asks for, the port it takes, how it refuses."""

import json
import signal
import socket
import subprocess
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from microgpt.core.check import BadValue
from microgpt.tracking import open_store, store_uri
from microgpt.tracking.state import colour
from microgpt.tracking.sweep import description
from microgpt.tracking.view import (
    PARAMS,
    all_runs_state,
    columns,
    runs_address,
    set_sweep_view,
    sweep_shown,
    sweep_state,
)
from microgpt.ui import HOST, _wait_for_answer, free_port, running_port
from tests.conftest import Here
from tests.running import project_here, running, untracked


def run(params: dict[str, str], metrics: Sequence[str] = ()) -> Any:
    return SimpleNamespace(data=SimpleNamespace(params=params, metrics=dict.fromkeys(metrics, 1.0)))


def test_another_programs_answer_is_not_the_servers() -> None:
    """It may have taken the port since it was found free."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer((HOST, 0), Health) as other, TemporaryFile() as log:
        Thread(target=other.serve_forever, daemon=True).start()
        process = subprocess.Popen(["sleep", "1"])
        with pytest.raises(BadValue, match=r"port=\d+: another program has taken it"):
            _wait_for_answer(process, other.server_port, log)
        assert process.returncode == 0
        other.shutdown()


def test_columns_are_the_params_that_differ_and_the_figures_there_are() -> None:
    one = run({"seed": "1", "model.n_head": "2", "optimizer.lr": "0.01"}, ["val/loss", "lr"])
    two = run({"seed": "1", "model.n_head": "4", "optimizer.lr": "0.01"}, ["cost/seconds"])
    assert columns([one, two]) == [
        "metrics.`val/loss`",
        "params.`model.n_head`",
        "metrics.`cost/seconds`",
    ]


def test_params_that_some_runs_lack_come_last_and_there_is_an_end() -> None:
    many = {f"key{i}": "1" for i in range(PARAMS)}
    one = run({"a": "1", **many})
    two = run(dict.fromkeys(many, "2"))
    assert columns([one, two]) == [f"params.`{key}`" for key in many]
    assert columns([run({"a": "1", "z": "1"}), run({"z": "2"})]) == ["params.`z`", "params.`a`"]


def test_the_best_held_out_loss_comes_first_else_the_latest_run() -> None:
    best = all_runs_state([run({}, ["val/loss"])])
    assert (best["orderByKey"], best["orderByAsc"]) == ("metrics.`val/loss`", True)
    latest = all_runs_state([run({})])
    assert (latest["orderByKey"], latest["orderByAsc"]) == ("attributes.start_time", False)


def sweep(grid: dict[str, list[str]], **facts: Any) -> dict[str, Any]:
    """What is known of a sweep over a grid; nothing of its jobs but what a view asks for."""
    jobs = []
    for values in product(*grid.values()):
        differs = dict(zip(grid, values))
        words = [f"{key.rpartition('.')[2]}={differs[key]}" for key in grid if key != "seed"]
        jobs.append({"arm": " ".join(words) or "default", "differs": differs})
    known = {"id": "0123456789ab-01234567", "grid": grid, "jobs": jobs, "description": None}
    return known | {"ablation": None, "config": {"model": {"n_embd": 16}}} | facts


def test_a_sweep_shows_its_runs_alone_by_arm_and_averaged_over_seeds() -> None:
    state = sweep_state(sweep({"model.n_head": ["1", "2", "4"], "seed": ["0", "1"]}))
    assert state["searchFilter"] == "tags.`sweep.0123456789ab-01234567` != ''"
    ended = sweep_state(sweep({"model.n_head": ["1", "2"]}), only_finished=True)["searchFilter"]
    assert ended == f"{state['searchFilter']} AND attributes.status = 'FINISHED'"
    assert state["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": "tag", "groupByData": "sweep.0123456789ab-01234567"}],
    }
    name = "tag.sweep.0123456789ab-01234567.n_head="
    assert state["groupsExpanded"] == {f"{name}{n}": False for n in (1, 2, 4)}  # closed
    many = sweep_state(sweep({"model.n_embd": [*map(str, range(99))], "seed": ["0", "1"]}))
    assert len(json.dumps(many)) <= 5000
    assert "groupsExpanded" not in many
    assert state["selectedColumns"] == [
        "metrics.`val/loss`",
        "params.`model.n_head`",
        "tags.`seed`",
        "metrics.`val/bpc`",
        "metrics.`cost/seconds`",
    ]


@pytest.mark.parametrize(
    ("grid", "order", "chart"),
    [
        ({"model.n_head": ["1", "16", "2"]}, "params.`model.n_head`", "SCATTER"),
        ({"model/norm": ["rmsnorm", "none"]}, "metrics.`val/loss`", "SCATTER"),
        ({"model.n_head": ["1"], "optimizer.lr": ["1e-3"]}, "metrics.`val/loss`", "PARALLEL"),
    ],
)
def test_arms_of_one_number_come_in_its_order_others_the_best_first(
    grid: dict[str, list[str]], order: str, chart: str
) -> None:
    state = sweep_state(sweep(grid))
    assert (state["orderByKey"], state["orderByAsc"]) == (order, True)
    assert "groupBy" not in state  # without seeds there is nothing to average
    assert [each["type"] for each in state["compareRunCharts"][:2]] == ["LINE", chart]


def test_arms_that_have_names_are_dots_which_need_not_begin_at_0() -> None:
    charts = sweep_state(sweep({"model/norm": ["rmsnorm", "none"]}))["compareRunCharts"]
    dots = next(chart for chart in charts if chart["type"] == "SCATTER")
    assert dots["xaxis"] == {"key": "cost/seconds", "type": "METRIC"}
    assert dots["yaxis"] == {"key": "val/loss", "type": "METRIC"}


def test_more_runs_than_the_page_loads_come_by_seed_so_that_all_arms_have_as_many() -> None:
    seeds = [*map(str, range(51))]
    for grid in ({"model.n_head": ["1", "2"]}, {"model/norm": ["rmsnorm", "none"]}):
        assert sweep_state(sweep(grid | {"seed": seeds}))["orderByKey"] == "tags.`seed`"
        assert sweep_state(sweep(grid | {"seed": seeds[:50]}))["orderByKey"] != "tags.`seed`"


def test_seeds_alone_are_one_group() -> None:
    state = sweep_state(sweep({"seed": ["0", "1"]}))
    assert state["groupBy"]["groupByKeys"][0]["mode"] == "tag"
    assert {each["type"] for each in state["compareRunCharts"]} == {"LINE"}


def test_arms_whose_names_get_one_colour_are_grouped_by_their_params() -> None:
    names = [f"n_head={i}" for i in range(1, 40)]
    tag, param = [("tag", "sweep.0123456789ab-01234567")], [("param", "model.n_head")]
    one = names[0]
    same = next(name for name in names[1:] if colour(tag, [name]) == colour(tag, [one]))
    values = [one.partition("=")[2], same.partition("=")[2]]
    assert colour(param, values[:1]) != colour(param, values[1:])
    state = sweep_state(sweep({"model.n_head": values, "seed": ["0", "1"]}))
    assert state["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "model.n_head"}]


def test_the_views_fit_into_a_tag() -> None:
    long = [f"{'x' * 40}{i}" for i in range(PARAMS + 1)]
    one, two = (run(dict.fromkeys(long, value), ["val/loss"]) for value in "12")
    assert len(json.dumps(all_runs_state([one, two]))) < 5000
    grid = {key: ["1", "2"] if key == long[0] else ["1"] for key in [*long, "seed"]}
    assert len(json.dumps(sweep_state(sweep(grid)))) < 5000


def test_a_sweep_describes_itself() -> None:
    info = sweep({"model.n_head": ["1", "2"], "seed": ["0", "1", "2"]}, description="Heads")
    lines = description(info, "7").splitlines()
    assert lines[0].startswith("Heads: [6 runs, by arm](/#/experiments/7/runs?")
    assert lines[0].endswith("viewStateShareKey=0123456789ab-01234567)")
    assert lines[2:4] == ["- `model.n_head` 1, 2", "- `seed` 0-2"]
    assert lines[-2:] == ["model.n_embd  16", "```"]


def test_a_sweep_is_found_by_its_experiment_and_its_id(outputs: Path) -> None:
    store = f"sqlite:///{outputs}/mlflow.db"
    client = open_store(store, outputs)
    home = client.create_experiment("microgpt")
    tags = {"sweep.id": "0123456789ab-01234567", "sweep.experiment": "heads"}
    parent = client.create_run(home, start_time=1000, tags=tags).info.run_id
    with pytest.raises(BadValue, match="no runs yet"):  # the sweep never began
        runs_address(store, outputs, "http://here")
    with pytest.raises(BadValue, match="none of its runs has begun"):
        runs_address(store, outputs, "http://here", "heads")
    client.create_run(home, start_time=1500, tags={"sweep.0123456789ab-01234567": "n_head=1"})
    client.create_run(home, start_time=2000, tags={"microgpt.id": "20260102-030405-abcdef"})
    set_sweep_view(client, home, sweep({"seed": ["0", "1"]}))
    for wanted in ("heads", "0123456789ab-01234567", "01234", parent, parent[:6]):
        address = runs_address(store, outputs, "http://here", wanted)
        assert address.endswith("viewStateShareKey=0123456789ab-01234567")
    assert runs_address(store, outputs, "http://here").endswith("viewStateShareKey=microgpt")
    (run,) = client.search_runs([home], "tags.`microgpt.id` != ''")
    for wanted in ("20260102-030405-abcdef", "2026", run.info.run_id):
        address = runs_address(store, outputs, "http://here", wanted)
        page = f"http://here/#/experiments/{home}/runs/{run.info.run_id}"
        assert address == f"{page}?workflowType=machine_learning"
    with pytest.raises(BadValue, match="there are heads"):
        runs_address(store, outputs, "http://here", "tails")


@pytest.mark.parametrize(
    ("uri", "look"),
    [
        ("", "microgpt ui 0123-4567"),
        ("sqlite:////far/off.db", "microgpt ui 0123-4567 --uri sqlite:////far/off.db"),
        (
            "http://far:5000/",
            "http://far:5000/#/experiments/7/runs"
            "?workflowType=machine_learning&viewStateShareKey=0123-4567",
        ),
    ],
)
def test_a_sweep_says_where_to_look(uri: str, look: str, outputs: Path) -> None:
    assert sweep_shown(uri or store_uri(None, outputs), outputs, "7", "0123-4567") == look


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) < port + 100
    assert free_port(0) > 0


@pytest.mark.slow
def test_a_server_that_runs_already_is_named(outputs: Path, here: Here) -> None:
    project_here(untracked(outputs), outputs)
    store, port, files = store_uri(None, outputs), free_port(15000), {*outputs.iterdir()}
    with running(outputs, "ui", "--port", str(port)) as first:
        assert first.stdout is not None
        opened = next(line for line in first.stdout if line.startswith("open  "))
        assert here(outputs, "ui", "--port", str(port))[0].splitlines() == [
            "MLflow's server is running already",
            opened.rstrip(),
        ]
        assert running_port(store, outputs, port + 1) is None  # another was asked for
        assert running_port("sqlite:///other.db", outputs, port) is None
        (file,) = {*outputs.iterdir()} - files - {outputs / "mlflow.db.lock"}
        text = file.read_text()
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=30)
    assert not file.exists()
    file.write_text(text)  # of one that was killed
    assert running_port(store, outputs, port) is None


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(BadValue, match="must be from 0 to 65535"):
        free_port(port)


def test_without_runs_there_is_a_line_and_nothing_is_left(tmp_path: Path, here: Here) -> None:
    said, complained = here(tmp_path / "outputs", "ui", code=2)
    assert said == ""
    assert complained.count("\n") == 1
    assert "no runs yet" in complained
    assert not (tmp_path / "outputs").exists()


def test_a_server_that_does_not_answer_is_a_line(tmp_path: Path, here: Here) -> None:
    said, complained = here(tmp_path, "ui", "--uri", f"http://{HOST}:{free_port(0)}", code=2)
    assert said == ""
    assert complained.count("\n") == 1
