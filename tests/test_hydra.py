"""Hydra's own tests of a launcher; other sweepers, launchers and callbacks beside ours."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.test_utils.launcher_common_tests import IntegrationTestSuite, LauncherTestSuite
from hydra.version import _UNSPECIFIED_, VersionBase

from microgpt.run.folder import all_runs
from microgpt.sweep import PLUGINS
from tests.running import REPOSITORY, SHORT, TINY, children, microgpt, start
from tests.test_sweep_cluster import dask, scheduler

pytestmark = pytest.mark.slow
WORKERS = "hydra.launcher.workers=1"
LAUNCHERS = ["processes", pytest.param("basic", marks=pytest.mark.soak)]
SWEEP = ["train", "-m", *TINY, *SHORT, "tracking=none", "progress=false"]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("processes", [WORKERS])])
class TestLauncher(LauncherTestSuite):
    """Any application's jobs."""

    @pytest.fixture(autouse=True)
    def base(self) -> Iterator[None]:
        """The defaults that Hydra's tests expect, whatever ran in this process before."""
        known = VersionBase.instance()
        before = known.version_base
        known.version_base = _UNSPECIFIED_
        yield
        known.version_base = before


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", "hydra/launcher=processes", "hydra.launcher.workers=1"])],
)
class TestIntegration(IntegrationTestSuite):
    """Scripts that know nothing of us: a path makes the launcher known to Hydra."""

    @pytest.fixture(autouse=True)
    def known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", f"{PLUGINS}{os.pathsep}{REPOSITORY}")


APPLICATION = """
import os
import hydra
import microgpt.sweep

class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__("no")

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    if cfg.x == 2:
        raise {error}
    print(cfg.x, os.getcwd(), flush=True)

main()
"""


def application(folder: Path, error: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """A script with a sweep over three values, the second of which fails."""
    (folder / "script.py").write_text(APPLICATION.format(error=error))
    return subprocess.run(
        [sys.executable, "script.py", "-m", "hydra/launcher=processes", "+x=1,2,3", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError('two')", "ValueError: two"),
        ("Unpicklable(1, 2)", "Unpicklable: no"),
        ("SystemExit(3)", "x=2: SystemExit: 3"),
    ],
)
def test_a_failing_job_of_another_application(tmp_path: Path, error: str, said: str) -> None:
    ended = application(tmp_path, error, WORKERS)
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
    assert sorted(line.split()[0] for line in ended.stdout.splitlines() if "tmp" in line) == [
        "1",
        "3",
    ]


def test_another_application_on_a_cluster(tmp_path: Path) -> None:
    place = tmp_path / "scheduler.json"
    with scheduler(place) as address, dask("worker", "--scheduler-file", str(place), "--no-nanny"):
        ended = application(tmp_path, "ValueError('two')", f"hydra.launcher.address={address}")
    assert ended.returncode == 1
    assert "ValueError: two" in ended.stderr, ended


CALLBACK = """
import json, os
from hydra.experimental.callback import Callback

class Told(Callback):
    def tell(self, *what):
        with open(os.environ["TOLD"], "a") as file:
            file.write(json.dumps(what) + "\\n")

    def on_multirun_start(self, config, **kwargs):
        self.tell("multirun_start")

    def on_multirun_end(self, config, **kwargs):
        self.tell("multirun_end")

    def on_job_start(self, config, **kwargs):
        self.tell("job_start", config.hydra.job.num, config.hydra.runtime.output_dir)

    def on_job_end(self, config, job_return, **kwargs):
        self.tell("job_end", config.hydra.job.num, job_return.return_value, job_return.cfg.seed)
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_callbacks_are_called(
    launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "told.py").write_text(CALLBACK)
    monkeypatch.setenv("TOLD", str(tmp_path / "told.jsonl"))
    program = f"import sys; sys.path.append({str(tmp_path)!r}); "
    words = [
        *SWEEP,
        "seed=1,2",
        f"hydra/launcher={launcher}",
        "+hydra.callbacks.a._target_=told.Told",
    ]
    words += [WORKERS] if launcher == "processes" else []
    process = start(tmp_path, *words, first=program)
    _, complaints = process.communicate(timeout=100)
    assert (process.returncode, complaints) == (0, "")
    told: list[list[Any]] = [
        yaml.safe_load(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()
    ]
    kinds = ["multirun_start", *["job_start", "job_end"] * 2, "multirun_end"]
    assert [line[0] for line in told] == kinds
    runs = {str(run.path) for run in all_runs(tmp_path)}
    assert {line[2] for line in told if line[0] == "job_start"} == runs
    ends = [line[1:] for line in told if line[0] == "job_end"]
    assert ends == [[0, 0, 1], [1, 0, 2]]


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_hydras_own_sweeper(launcher: str, outputs: Path) -> None:
    words = [*SWEEP, "seed=1,2", "hydra/sweeper=basic", f"hydra/launcher={launcher}"]
    words += [WORKERS] if launcher == "processes" else []
    _, complaints = microgpt(outputs, *words)
    assert complaints == ""
    runs = all_runs(outputs)
    assert [run.status for run in runs] == ["finished"] * 2
    assert sorted(run.config["seed"] for run in runs) == [1, 2]


def test_a_failing_job_of_hydras_own_sweeper(outputs: Path) -> None:
    words = [*SWEEP, "model.n_head=3,2", "hydra/sweeper=basic", WORKERS]
    _, complaints = microgpt(outputs, *words, code=2)
    assert complaints.splitlines()[-1] == "microgpt: model.n_head=3: must divide n_embd=8"
    assert "Traceback" not in complaints
    assert [run.config["model"]["n_head"] for run in all_runs(outputs)] == [2]
    assert len(list((outputs / "runs").iterdir())) == 1


def test_joblibs_launcher_with_our_sweeper(outputs: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = [word for word in SWEEP if word != "tracking=none"]
    microgpt(outputs, *words, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert len(children(outputs)) == 2


def test_optunas_sweeper_with_our_launcher(outputs: Path) -> None:
    """It asks for the loss of each run, and finds the lowest."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", WORKERS]
    microgpt(outputs, *SWEEP, *words, "optimizer.lr=interval(0.001,0.1)")
    runs = {
        run.config["optimizer"]["lr"]: run.metrics()[-1]["val/loss"] for run in all_runs(outputs)
    }
    assert len(runs) == 4
    found = yaml.safe_load((outputs / "optimization_results.yaml").read_text())
    assert found["best_value"] == pytest.approx(min(runs.values()))
    assert found["best_params"]["optimizer.lr"] == pytest.approx(min(runs, key=lambda lr: runs[lr]))
