"""What `microgpt verify` says of code and machines that are not those of the record."""

from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.reproduce.changes import asks_libm
from microgpt.core.optim.adam import Adam
from microgpt.run.folder import RunFolder
from microgpt.tracking import sync
from tests.conftest import Verify
from tests.running import (
    SHORT,
    train_here,
)


def finished_by_hand(outputs: Path, *overrides: str, **facts: Any) -> RunFolder:
    """A run whose record says other facts than were true."""
    _, run = train_here(outputs, "tracking=none", *SHORT, *overrides)
    run.update(**facts)
    config = run.config
    config["tracking"] = {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "x"}
    run.set_config(config)
    list(sync([run], None, outputs))
    return run


def test_what_has_changed_is_said_of_an_exact_run_too(outputs: Path, verify: Verify) -> None:
    _, fresh = train_here(outputs, "tracking=none", *SHORT, name="fresh")
    info = fresh.info
    changed = {**info["source_files"], "microgpt.core.optim.adam": "0" * 64, "microgpt.gone": "1"}
    facts = {"source": "2" * 64, "source_files": changed, "packages": {"pooch": "0.1"}}
    facts["fingerprint"] = {**info["fingerprint"], "python": "CPython 3.9.1", "machine": "abacus"}
    run = finished_by_hand(outputs, **facts)
    code, said = verify(outputs, run.path)
    assert code == 0
    assert "bit-exact" in said
    files = "source: microgpt.core.optim.adam changed, microgpt.gone gone"
    assert f"changed since the record: {files}" in said
    assert "changed since the record: package pooch: 0.1 then, " in said
    assert "changed since the record: python: CPython 3.9.1 then, " in said
    assert "abacus" not in said  # the vector engine has the same bits everywhere


def test_other_code_and_what_it_changed(
    outputs: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fresh = train_here(outputs, "tracking=none", *SHORT, name="fresh")
    changed = {**fresh.info["source_files"], "microgpt.core.optim.adam": "0" * 64}
    run = finished_by_hand(outputs, source="2" * 64, source_files=changed)
    update = Adam.update

    def other(self: Adam, ops: Any, p: Any, g: Any, slots: Any, lr: float) -> Any:
        return update(self, ops, p, g, slots, lr * (1 + 2**-30) if self.steps == 8 else lr)

    monkeypatch.setattr(Adam, "update", other)
    code, said = verify(outputs, run.path)
    assert code == 1
    assert "diverged at step 9 in train/loss, by " in said
    assert "not as recorded: source: microgpt.core.optim.adam changed (recorded at commit " in said


@pytest.mark.parametrize(
    ("module", "asks"),
    [
        ("microgpt.vector.engine", False),
        ("microgpt.core.engine.scalar", True),
        ("microgpt.core.optim.adamw", False),
        ("microgpt.core.optim.adam_original", True),
        ("microgpt.core.layers.init.gauss", True),
        ("microgpt.core.layers.activation.gelu", False),
        ("microgpt.core.schedule.cosine", False),
        ("microgpt.core.trainer", False),
    ],
)
def test_whose_figures_hang_on_the_c_library(module: str, asks: bool) -> None:
    assert asks_libm([module]) is asks


def test_the_machine_counts_where_figures_hang_on_it(outputs: Path, verify: Verify) -> None:
    for engine in ("numpy", "scalar"):
        words = [f"engine={engine}", "trainer.num_steps=3"]
        _, run = train_here(outputs, *words, "tracking=none", name=f"{engine}-once")
        facts = {"fingerprint": {**run.info["fingerprint"], "machine": "abacus"}}
        _, again = train_here(outputs, *words, "tracking=none", name=engine)
        again.update(**facts)
        list(sync([again], None, outputs))
        code, said = verify(outputs, engine)
        assert code == 0
        assert "changed since the record: machine: abacus then, " in said
