"""The original program's figures, with `==`; to 1e-9 where `check` says that libm is another."""

import json
from pathlib import Path

import pytest

from microgpt.run.folder import all_runs
from tests.conftest import Here
from tests.golden.check import FILES, HERE, SAME_LIBM, SIGNATURES, check, check_signature

FEW = ("default", "n_embd-8", "n_head-1", "n_layer-2")


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(file, marks=[] if file.stem in FEW else pytest.mark.slow, id=file.stem)
        for file in FILES
    ],
)
def test_the_original_to_the_last_bit(file: Path) -> None:
    check(file)
    if not SAME_LIBM:
        pytest.skip("met to 1e-9 only: this machine's libm has other last bits")


def test_there_are_golden_files() -> None:
    assert len(FILES) == 8
    assert len(SIGNATURES) == 2


@pytest.mark.parametrize("file", SIGNATURES, ids=lambda file: file.stem)
def test_a_signature_is_for_ever(file: Path) -> None:
    check_signature(file)


@pytest.mark.parametrize("name", ["block_size-4", "n_embd-8", "n_layer-2"])
def test_the_experiment_is_the_original(name: str, tmp_path: Path, here: Here) -> None:
    golden = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    sizes = [f"model.{key}={golden[key]}" for key in ("n_layer", "n_head", "n_embd", "block_size")]
    steps = [
        f"trainer.num_steps={golden['num_steps']}",
        f"trainer.stop_after={golden['steps_run']}",
    ]
    sampling = f"sampling.num_samples={len(golden['samples'])}"
    rest = [f"seed={golden['seed']}", f"optimizer.lr={golden['lr']}", sampling, "tracking=none"]
    data = f"data.path={HERE / 'names_tiny.txt'}"
    here(tmp_path, "train", "experiment=original", data, *sizes, *steps, *rest)
    (run,) = all_runs(tmp_path)
    if SAME_LIBM:
        assert [row["train/loss"] for row in run.metrics()] == golden["losses"]
        assert (run.path / "samples.txt").read_text() == "".join(
            f"{s}\n" for s in golden["samples"]
        )
        assert run.info["parameters_sha256"] == golden["params_sha256"]
