"""Fixtures of several test files."""

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import microgpt.sweep  # noqa: F401  has its plugins found, before Hydra looks for any
from microgpt import cli
from microgpt.ablation.report.report import report
from microgpt.tracking import MLflow, SendingProcess, open_store
from microgpt.tracking.process import Trouble
from tests.command import Within
from tests.sweeps import (
    Made,
    address,
    heads,
    log_sweep,
)

Verify = Callable[..., tuple[int, str]]
Here = Callable[..., tuple[str, str]]
MLflow.PATIENCE = 300.0  # a machine that is busy with tests may need minutes for what takes seconds


# A function with a frame of 264 KB, in a chunk of 512 KB. Other chunks have 16 KB: for each call at the end
# of one, Python asks the system for another, and gives it back. Below this frame some thousand calls fit.
WIDE: dict[str, Any] = {}
LOCALS = "=".join(f"_{i}" for i in range(33_000))
exec(f"def wide(call):\n if 0: {LOCALS} = 0\n return call()", WIDE)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Calls a test as pytest does, with room for its frames: some took nearly twice as long without."""
    names = inspect.signature(pyfuncitem.obj).parameters
    given = {name: pyfuncitem.funcargs[name] for name in names}
    WIDE["wide"](partial(pyfuncitem.obj, **given))
    return True


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database: setting one up takes seconds, a copy none."""
    outputs = tmp_path_factory.mktemp("store")
    open_store(f"sqlite:///{outputs}/mlflow.db", outputs)
    return outputs / "mlflow.db"


@pytest.fixture
def outputs(
    store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder that runs write to, with a fresh store of its own."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "outputs"
    folder.mkdir()
    shutil.copy(store_template, folder / "mlflow.db")
    yield folder
    with suppress(Trouble):  # it is no more
        SendingProcess.flush(30.0)  # a store may have kept it waiting; no end of it is an error


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verify:
    """`microgpt verify words` with the store in `outputs`: its exit code, and what it says."""

    def call(outputs: Path, *words: object) -> tuple[int, str]:
        monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setattr(sys, "argv", ["microgpt", "verify", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out + said.err

    return call


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Here:
    """`microgpt <words>` in this process: what it says on standard output and standard error.

    It must end with `code`. Two seconds quicker than `running.microgpt`, whose process imports all anew.
    """

    def call(outputs: Path, *words: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ended = Within(monkeypatch, capfd)(*words)
        assert ended.code == code, ended
        return ended.out, ended.err

    return call


@pytest.fixture(scope="session")
def bench(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a store that all reports share: opening one takes longer than a test."""
    outputs = tmp_path_factory.mktemp("bench")
    shutil.copy(store_template, outputs / "mlflow.db")
    return outputs


@pytest.fixture(scope="session")
def told(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Made]:
    """The folder of a report, its sweep's run, the sweep."""
    made = heads()
    parent = log_sweep(bench, made)
    return report(made.id, address(bench), bench, tmp_path_factory.mktemp("told")), parent, made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are not fit for training."""
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("zoë\n".encode("latin-1")[1:])
    for group, name, text in [
        ("model", "mine", "defaults:\n  - microgpt\n  - _self_\nnorm:\n  _target_: mine.Norm\n"),
        ("schedule", "broken", "_target_: x\n  y: [\n"),
    ]:
        (tmp_path / "own" / group).mkdir(parents=True)
        (tmp_path / "own" / group / f"{name}.yaml").write_text(text)
    (tmp_path / "own/schedule/latin.yaml").write_bytes("# zoë\n_target_: x\n".encode("latin-1"))
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MICROGPT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    return tmp_path
