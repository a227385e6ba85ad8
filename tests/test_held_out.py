"""The nats of every test document, which a run keeps."""

from pathlib import Path

import pytest

from microgpt.run.held_out import HELD_OUT, HeldOut, held_out_of, write_held_out
from microgpt.run.reading import BadRecord
from tests.running import train_here

TEST = ("tracking=none", "data.test_fraction=0.2", "trainer.num_steps=6", "trainer.batch_size=3")


@pytest.mark.parametrize("engine", ["native", "vector", "scalar", "numpy"])
def test_they_add_up_to_the_test_loss_on_every_engine(tmp_path: Path, engine: str) -> None:
    code, run = train_here(tmp_path, *TEST, f"engine={engine}", "model.n_embd=4")
    assert code == 0
    found = held_out_of((run.path / HELD_OUT).read_bytes(), HELD_OUT)
    assert len(found.nats) == run.info["data"]["test_documents"] == len(found.tokens)
    loss = run.metrics()[-1]["test/loss"]
    assert sum(found.nats) / sum(found.tokens) == pytest.approx(loss, rel=1e-12)
    assert min(found.nats) > 0
    assert HELD_OUT in {file.name for file in run.files()}


def test_the_targets_tell_whether_two_runs_can_be_compared(tmp_path: Path) -> None:
    changes = {
        "base": (),
        "seed": ("seed=7", "trainer.batch_size=4"),
        "split": ("data.split_seed=1",),
        "shorter": ("model.block_size=3",),
    }
    told = {}
    for name, words in changes.items():
        _, run = train_here(tmp_path, *TEST, *words, "engine=native", name=name)
        told[name] = held_out_of((run.path / HELD_OUT).read_bytes(), HELD_OUT)
    assert told["base"].targets_sha256 == told["seed"].targets_sha256
    assert told["base"].nats != told["seed"].nats
    assert len({found.targets_sha256 for found in told.values()}) == 3


def test_there_is_no_file_without_a_test_part_or_before_the_end(tmp_path: Path) -> None:
    code, run = train_here(tmp_path, "tracking=none", "trainer.num_steps=4", "engine=native")
    assert code == 0
    assert not (run.path / HELD_OUT).exists()
    _, stopped = train_here(
        tmp_path, *TEST, "trainer.stop_after=3", "engine=native", name="stopped"
    )
    assert not (stopped.path / HELD_OUT).exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / HELD_OUT
    for content in (b"", b"x" * 40, b"\x02\0\0\0\0\0\0\0{}"):
        file.write_bytes(content)
        with pytest.raises(BadRecord, match="does not hold the nats of test documents"):
            held_out_of(file.read_bytes(), file)
    write_held_out(file, HeldOut([1.5, 2.5], [3, 4], "of some"))
    assert held_out_of(file.read_bytes(), file) == HeldOut([1.5, 2.5], [3, 4], "of some")
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadRecord, match="is damaged: its content is not that of its sha256"):
        held_out_of(file.read_bytes(), file)
