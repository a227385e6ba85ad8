"""Many runs in a store and in folders: all are found."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from microgpt.listing import Wanted, list_runs
from microgpt.run.folder import RunFolder
from microgpt.run.record import FAILED
from microgpt.run.sweep import all_sweeps
from tests.running import FACTS, REPOSITORY, microgpt, stored

COUNT = 900


def bench() -> Any:
    """The module that makes such a store."""
    path = REPOSITORY / "experiments/speed/store.py"
    spec = spec_from_file_location("speed_store", path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.soak
def test_hundreds_of_runs(outputs: Path) -> None:
    store = bench()
    store.template(outputs)
    store.multiply(outputs, COUNT)
    assert len(stored(outputs)) == COUNT + 1  # and their sweep
    sweeps = {sweep.path.name: sweep for sweep in all_sweeps(outputs)}
    store.skip_check(outputs, sweeps[store.EVERY])
    for sweep in sweeps.values():
        known = store.skip_check(outputs, sweep)
        assert {*known.values()} == {(job["run"], "FINISHED") for job in sweep.jobs}
    said, _ = microgpt(outputs, "runs")
    names = [f"seed={number} " for number in range(COUNT - 20, COUNT)]
    lines = said.splitlines()[1:]
    assert [name for name, line in zip(names, lines) if name.strip() in line] == names
    assert len(microgpt(outputs, "runs", "-n", "0")[0].splitlines()) == COUNT + 1


def test_a_run_that_could_not_be_built_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "runs/one")
    run.create({}, [], "", **FACTS)
    run.update(status=FAILED)
    list_runs(tmp_path, None, Wanted(), as_json=False)
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row == ["one", "failed", "0/5", "none"]
