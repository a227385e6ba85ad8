"""`microgpt ui`, short of a browser: the view it asks for, the port it takes, how it refuses."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microgpt.core.check import BadValue
from microgpt.tracking.view import PARAMS, _view_state, columns
from microgpt.ui import HOST, free_port


def run(params: dict[str, str], metrics: Sequence[str] = ()) -> Any:
    return SimpleNamespace(data=SimpleNamespace(params=params, metrics=dict.fromkeys(metrics, 1.0)))


def test_columns_are_the_params_that_differ_and_the_figures_there_are() -> None:
    one = run({"seed": "1", "model.n_head": "2", "optimizer.lr": "0.01"}, ["val/loss", "lr"])
    two = run({"seed": "1", "model.n_head": "4", "optimizer.lr": "0.01"}, ["cost/seconds"])
    assert columns([one, two]) == [
        "params.`model.n_head`",
        "metrics.`val/loss`",
        "metrics.`cost/seconds`",
    ]


def test_params_that_some_runs_lack_come_last_and_there_is_an_end() -> None:
    many = {f"key{i}": "1" for i in range(PARAMS)}
    one = run({"a": "1", **many})
    two = run(dict.fromkeys(many, "2"))
    assert columns([one, two]) == [f"params.`{key}`" for key in many]
    assert columns([run({"a": "1", "z": "1"}), run({"z": "2"})]) == ["params.`z`", "params.`a`"]


def test_the_best_held_out_loss_comes_first_else_the_latest_run() -> None:
    best = _view_state(["metrics.`val/loss`"])
    assert (best["orderByKey"], best["orderByAsc"]) == ("metrics.`val/loss`", True)
    latest = _view_state([])
    assert (latest["orderByKey"], latest["orderByAsc"]) == ("attributes.start_time", False)


def test_the_view_fits_into_a_tag() -> None:
    selected = [f"params.`{'x' * 40}{i}`" for i in range(PARAMS)] + ["metrics.`val/loss`"]
    assert len(json.dumps(_view_state(selected))) < 5000


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) < port + 100
    assert free_port(0) > 0


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(BadValue, match="must be from 0 to 65535"):
        free_port(port)


def microgpt_ui(outputs: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from microgpt.cli import main; main()", "ui", *words]
    environment = {key: os.environ[key] for key in os.environ if key != "MLFLOW_TRACKING_URI"}
    environment["MICROGPT_OUTPUTS"] = str(outputs)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_without_runs_there_is_a_line_and_nothing_is_left(tmp_path: Path) -> None:
    done = microgpt_ui(tmp_path / "outputs")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no runs yet" in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_server_that_does_not_answer_is_a_line(tmp_path: Path) -> None:
    done = microgpt_ui(tmp_path, "--uri", f"http://{HOST}:{free_port(0)}")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
