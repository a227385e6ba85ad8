"""A registered model: an MLflow LoggedModel of its run, loaded, served, and asked."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

import microgpt
from microgpt.run.folder import RunFolder
from microgpt.tracking import open_store
from microgpt.ui import free_port
from tests.command import environment
from tests.conftest import Here
from tests.running import REPOSITORY, sync_here, untracked
from tests.running import microgpt as command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:.*Any type hint:UserWarning"
    ),  # MLflow's own, as it is loaded
]
PAGE = REPOSITORY / "docs/serving.md"
STORE = "sqlite:///outputs/mlflow.db"  # as the page has it
TRACKED = {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "microgpt"}


@pytest.fixture(scope="module", autouse=True)
def own_store() -> Iterator[None]:
    """The store that these tests name to MLflow, which keeps it in the environment, is theirs alone."""
    yield
    mlflow.set_tracking_uri("")
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="module")
def registered(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a run `here`, which is registered as `names`."""
    outputs = tmp_path_factory.mktemp("registered") / "outputs"
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    folder = untracked(outputs, "sampling.temperature=1")
    folder.set_config(folder.config | {"tracking": TRACKED})
    sync_here(outputs)
    said, complaints = command(outputs, "register", "here", "--name", "names")
    assert complaints == ""
    assert said.startswith("model  models:/names/1  of run here\n")
    return outputs


def client_of(outputs: Path) -> MlflowClient:
    mlflow.set_tracking_uri(f"sqlite:///{outputs}/mlflow.db")
    return MlflowClient()


def blocks(page: str) -> list[str]:
    """The commands of a page, with their continued lines."""
    lines = re.findall(r"^    (.*)$", page, re.MULTILINE)
    return "\n".join(lines).replace("\\\n", " ").split("\n")


@pytest.fixture(scope="module")
def server(registered: Path) -> Iterator[str]:
    """The address of a server, started as the page says."""
    (line,) = [line for line in blocks(PAGE.read_text()) if line.startswith("mlflow models serve")]
    port = free_port(5001)
    words = line.replace("5001", str(port)).split()
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=registered.parent,
        env=environment(MLFLOW_TRACKING_URI=STORE, PYTHONPATH=str(REPOSITORY)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 100
        while not alive(address):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def alive(address: str) -> bool:
    try:
        with urlopen(f"{address}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(address: str, content: object, kind: str = "application/json") -> tuple[int, str]:
    """The status and the text of an answer."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = Request(f"{address}/invocations", data, {"Content-Type": kind})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def texts(*given: object, **params: object) -> dict[str, object]:
    return {"dataframe_records": [{"text": text} for text in given], "params": params}


def test_it_is_a_logged_model_of_its_run(registered: Path) -> None:
    client = client_of(registered)
    version = client.get_model_version("names", "1")
    run = client.get_run(version.run_id)
    (output,) = run.outputs.model_outputs
    assert version.source == f"models:/{output.model_id}"
    assert "trust" not in run.data.params
    assert run.info.status == "FINISHED"
    assert run.info.end_time / 1000 == pytest.approx(RunFolder(registered / "runs/here").ended)
    model = client.get_logged_model(output.model_id)
    assert model.experiment_id == run.info.experiment_id
    place = Path(model.artifact_location.removeprefix("file://"))
    assert place.is_relative_to(registered / "artifacts/microgpt")
    names = {file.name for file in place.rglob("*") if file.is_file()}
    assert {"model.py", "input_example.json", "step-12.safetensors"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))]


def test_it_generates_and_scores_as_the_run_does(registered: Path) -> None:
    client_of(registered)
    model = mlflow.pyfunc.load_model("models:/names/1")
    run = microgpt.load(registered / "runs/here")
    answer = model.predict([{"text": "an"}], params={"seed": 3, "temperature": 0.7})
    assert answer.text.to_list() == run.sample(1, prompt="an", seed=3, temperature=0.7)
    given = ["anna", "", "carlacarl"]  # the last one fills the block: its end is not predicted
    scores = model.predict([{"text": text} for text in given], params={"task": "score"})
    assert scores.tokens.to_list() == [5, 1, 9]
    for text, found in zip(given, scores.nats):
        logits = run.logits(text[:8]).to_numpy()
        columns = [*run.logits("").columns]
        ids = [columns.index(token) for token in [*text, ""]][: len(logits)]
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        own = -sum(logs[t, i] for t, i in enumerate(ids))
        assert found == pytest.approx(own, rel=1e-9)


def test_requests(server: str) -> None:
    status, answer = ask(server, texts("an", "be", seed=1))
    rows = json.loads(answer)["predictions"]
    assert status == 200
    assert [row["text"][:2] for row in rows] == ["an", "be"]
    assert ask(server, texts("an", "be", seed=1)) == (status, answer)
    status, answer = ask(server, texts("anna", task="score"))
    (row,) = json.loads(answer)["predictions"]
    assert (status, row["text"], row["tokens"]) == (200, "anna", 5)
    assert math.isfinite(row["nats"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (texts("Q"), "text='Q': 'Q': not in the vocabulary"),
        (texts("a" * 9), "must be shorter than block_size=9"),
        (texts("a" * 10, task="score"), "must be at most 9 characters"),
        (texts("a", task="dance"), "task='dance': must be generate or score"),
        (texts("a", temperature=-1.0), "temperature=-1.0: must be a number >= 0"),
        (texts("a", seed=-1), "seed=-1: must be an integer >= 0"),
        (texts("a", seed="one"), "seed"),
        (texts(None), "must be a text"),
        (texts(7), "text"),
        ({"dataframe_records": [{"prompt": "a"}]}, "text"),
        ({}, ""),
        (b"{", ""),
        (b"\xff", ""),
    ],
)
def test_wrong_requests(server: str, content: object, said: str) -> None:
    status, answer = ask(server, content)
    assert status == 400, answer
    assert said in answer


def test_another_kind_of_content(server: str) -> None:
    assert ask(server, b"anna", "text/plain")[0] == 415


def test_the_page(server: str, registered: Path) -> None:
    """Its curl commands, and its lines of Python."""
    lines = blocks(PAGE.read_text())
    curls = [line.replace("http://127.0.0.1:5001", server) for line in lines if "curl" in line]
    commands = [["bash", "-c", line] for line in curls]
    answers = [subprocess.run(each, capture_output=True, check=True).stdout for each in commands]
    generated, scored = (json.loads(answer)["predictions"] for answer in answers)
    assert generated[0]["text"].startswith("mar")
    assert [row["tokens"] for row in scored] == [6, 4]
    python = "\n".join(lines[lines.index("import mlflow") :])
    environ = environment(MLFLOW_TRACKING_URI=STORE, PYTHONPATH=str(REPOSITORY))
    subprocess.run([sys.executable, "-c", python], cwd=registered.parent, env=environ, check=True)


def test_outputs_that_were_moved(registered: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(registered, there)
    shutil.rmtree(there / "runs")
    open_store(f"sqlite:///{there}/mlflow.db", there)
    client = client_of(there)
    version = client.get_model_version("names", "1")
    place = client.get_logged_model(version.source.rpartition("/")[2]).artifact_location
    assert place.startswith(there.as_uri())
    assert mlflow.pyfunc.load_model("models:/names/1").predict([{"text": "an"}]).text[0][:2] == "an"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--name", "other"], "nowhere: no such run"),
        (["here", "--name", "a/b"], "name='a/b': cannot be registered"),
        (["here"], "--name"),
    ],
)
def test_what_is_refused(registered: Path, here: Here, words: list[str], said: str) -> None:
    before = [model.name for model in client_of(registered).search_registered_models()]
    _, complaint = here(registered, "register", *words, code=2)
    assert said in complaint
    assert complaint.count("\n") == 1
    assert [model.name for model in client_of(registered).search_registered_models()] == before
