"""Figures of others, and what ours are: experiments/outside."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import REPOSITORY

OUTSIDE = REPOSITORY / "experiments" / "outside"
RESULTS = json.loads((OUTSIDE / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def outside() -> Any:
    """The module that trains them."""
    sys.path.insert(0, str(OUTSIDE))
    try:
        import check
    finally:
        sys.path.remove(str(OUTSIDE))
    return check


def test_the_page_says_what_was_found(outside: Any) -> None:
    written = (OUTSIDE / "README.md").read_text(encoding="utf-8")
    assert written == outside.table.page(RESULTS)


def test_what_was_not_trained_is_said(outside: Any) -> None:
    some = {"counted": RESULTS["counted"], "gpt-dev": {"skipped": "data.path: no network"}}
    page = outside.table.page(some)
    assert "- gpt-dev, Tiny Shakespeare: data.path: no network" in page
    assert "- bigram, trained: not trained" in page
    assert "| 2.454577 |" in page


def test_the_notebooks_model_has_its_number_of_parameters(
    outside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count depends on the 65 characters of the text, not on the text."""
    characters = "\n" + "".join(map(chr, range(33, 97)))
    (tmp_path / "tinyshakespeare.txt").write_text(characters * 20)
    monkeypatch.setenv("MICROGPT_DATA", str(tmp_path))
    gpt_dev = outside.CHECKS["gpt-dev"]
    trainer = outside.run_of(gpt_dev, 0, "engine=native").trainer
    assert sum(weight.size for weight in trainer.shapes.values()) == 209729
    assert {name for name in trainer.shapes if name.startswith("layer0") and "bias" in name} == {
        f"layer0.{name}.bias" for name in ("norm_attn", "norm_mlp", "attn_wo", "mlp_fc1", "mlp_fc2")
    }


@pytest.mark.parametrize("name", ["bigram", "eemicrogpt", "eemicrogpt, long"])
def test_every_configuration_of_names_can_be_built(
    outside: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count depends on the letters alone."""
    (tmp_path / "names.txt").write_text("abcdefghijklm\nnopqrstuvwxyz\n")
    monkeypatch.setenv("MICROGPT_DATA", str(tmp_path))
    check = outside.CHECKS[name]
    trainer = outside.run_of(check, 0).trainer
    assert sum(weight.size for weight in trainer.shapes.values()) == check.n_params


def figure(outside: Any, name: str, seed: int = 0) -> float:
    """A check's figure with a seed. Skips where its data are missing."""
    import os

    check = outside.CHECKS[name]
    if not (Path(os.environ.get("MICROGPT_DATA", "")) / check.file).is_file():
        pytest.skip(f"MICROGPT_DATA names no folder with {check.file}")
    return float(check.measure(outside.run_of(check, seed)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counted", "counted, float32", "bigram"])
def test_a_bigram_model_has_its_figure(outside: Any, name: str) -> None:
    assert figure(outside, name) == pytest.approx(RESULTS[name]["ours"][0], abs=1e-6)


@pytest.mark.slow
def test_eemicrogpt_is_met(outside: Any) -> None:
    """Its bits depend on the BLAS."""
    assert figure(outside, "eemicrogpt") == pytest.approx(
        RESULTS["eemicrogpt"]["ours"][0], abs=0.01
    )


@pytest.mark.soak
def test_gpt_dev_has_its_figure(outside: Any) -> None:
    assert figure(outside, "gpt-dev") == pytest.approx(RESULTS["gpt-dev"]["ours"][0], abs=1e-4)


@pytest.mark.soak
def test_the_long_run_of_eemicrogpt_is_met(outside: Any) -> None:
    """Their figure has two digits; a mean of 100 steps has a standard deviation of about 0.013."""
    assert figure(outside, "eemicrogpt, long") == pytest.approx(1.92, abs=0.04)
