"""Sources that read files; runs on running text, whose one document has lines of its own."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.core.check import BadValue
from microgpt.datasets.sources import Lines, Text
from microgpt.run.documents import from_lines, to_lines
from microgpt.run.folder import all_runs
from tests.conftest import Here

VERSE = "roses are red\nviolets\\n are blue\n\nsugar is sweet\n" * 40
SMALL = ["model.n_embd=8", "model.n_head=2", "model.block_size=8", "trainer.eval_documents=5"]
SMALL += ["trainer.log_every=1", "trainer.num_steps=6", "trainer.checkpoint_every=3"]
SMALL += ["sampling.num_samples=4", "progress=false"]
LINES = {"val_fraction": 0.0, "test_fraction": 0.0, "split": "hash", "split_seed": 0}


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_bytes(b"\xef\xbb\xbfada\nbob\n")
    assert Lines(path=str(file), **LINES).documents() == ["ada", "bob"]  # type: ignore[arg-type]
    text = Text(path=str(file), val_fraction=0.1, test_fraction=0.0)
    assert text.documents() == ["ada\nbob\n"]


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe"])
def test_a_text_that_cannot_be_read_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(BadValue, match="path="):
        Text(path=str(file), val_fraction=0.1, test_fraction=0.0).documents()


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_texts_in_lines_come_back(texts: list[str]) -> None:
    assert from_lines(to_lines(texts)) == texts


def test_a_run_on_running_text_is_resumed_sampled_verified_and_forked(
    outputs: Path, here: Here
) -> None:
    verse = outputs / "verse.txt"
    verse.write_text(VERSE)
    words = ["train", "data=text", f"data.path={verse}", *SMALL]
    here(outputs, *words, "trainer.stop_after=4")
    (stopped,) = all_runs(outputs)
    here(outputs, *words)
    whole = next(run for run in all_runs(outputs) if run.path != stopped.path)
    assert whole.documents == [VERSE]
    verse.unlink()  # from here on the run's own copy is enough
    name = stopped.path.name
    here(outputs, "train", f"resume={name}", "trainer.stop_after=null")
    assert stopped.info["parameters_sha256"] == whole.info["parameters_sha256"]
    assert stopped.samples() == whole.samples()
    assert len(whole.samples()) == 4
    drawn, _ = here(outputs, "sample", name, "--prompt", "red\nv", "--seed", "1", "-n", "1")
    assert drawn.startswith("red\nv")
    assert "bit-exact" in here(outputs, "verify", name)[0]
    here(outputs, "fork", name, "--at-step", "3", "optimizer.lr=0.001")
