"""A checkpoint that was damaged, or is not its run's: one line, and never other parameters in silence."""

import json
import re
import shlex
import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.core.events import Checkpointed
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import BadCheckpoint, read_checkpoint, write_checkpoint
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.state import check_fits
from microgpt.sample import rebuild
from tests.command import Within
from tests.misfits import MISFITS, NAN, transposed
from tests.running import figures, train_here

STEPS = ["tracking=none", "trainer.num_steps=20", "trainer.checkpoint_every=5"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nobody stopped."""
    return train_here(tmp_path_factory.mktemp("whole"), *STEPS)[1]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was stopped after step 12, with checkpoints of 5, 10 and 12; it stays as it is."""
    return train_here(tmp_path_factory.mktemp("stopped"), *STEPS, "trainer.stop_after=12")[1]


@pytest.fixture(scope="module")
def trainer(stopped: RunFolder) -> Trainer:
    """The run's, before its first step."""
    return rebuild(stopped).trainer


@pytest.fixture
def run(stopped: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the stopped run."""
    shutil.copytree(stopped.path, tmp_path / "runs/here")
    return RunFolder(tmp_path / "runs/here")


@pytest.fixture
def microgpt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, list[str]]]:
    """A command's exit code, its output, and the lines that it complains in."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(tmp_path))
    within = Within(monkeypatch, capfd)

    def command(*words: str) -> tuple[int, str, list[str]]:
        ended = within(*words)
        lines = ended.err.splitlines()
        assert all(line.startswith("microgpt: ") for line in lines), ended.err
        return ended.code, ended.out, lines

    return command


def last(run: RunFolder) -> Path:
    return run.path / "checkpoints/step-12.safetensors"


def read(file: Path, trainer: Trainer) -> Checkpointed:
    """What a command takes from a file. Raises BadCheckpoint."""
    state = read_checkpoint(file)
    check_fits(file, state, trainer)
    return state


def regions(content: bytes) -> dict[str, range]:
    """The bytes of each kind in a checkpoint."""
    size = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    found = {"length": range(8), "header": range(8, 8 + size)}
    for name, facts in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in facts["data_offsets"])
            kind = name.partition("/")[0] if "/" in name else "weights"
            found[f"{kind} {name}"] = range(begin, end)
    return found


@st.composite
def flips(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with one bit of any kind of byte flipped."""
    places = regions(content)
    place = places[draw(st.sampled_from(sorted(places)))]
    at = draw(st.sampled_from(place))
    changed = bytearray(content)
    changed[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def check_flip(file: Path, content: bytes, right: Checkpointed, trainer: Trainer) -> None:
    file.write_bytes(content)
    try:
        assert read(file, trainer) == right
    except BadCheckpoint as error:
        said = str(error)
        assert said.startswith(f"{file}: ")
        assert "\n" not in said


def test_no_flipped_bit_is_loaded(
    stopped: RunFolder, trainer: Trainer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content, right = last(stopped).read_bytes(), read_checkpoint(last(stopped))
    file = tmp_path_factory.mktemp("flips") / "step-12.safetensors"

    @settings(max_examples=150, deadline=None, database=None)
    @given(flips(content))
    def flipped(changed: bytes) -> None:
        check_flip(file, changed, right, trainer)

    flipped()
    check_flip(file, content, right, trainer)  # as it was, it is taken


@pytest.mark.parametrize(
    "apart",
    [pytest.param(9, marks=pytest.mark.slow), pytest.param(1, marks=pytest.mark.soak)],
)
def test_no_bit_of_the_header_or_of_a_weight_is_loaded(
    apart: int, stopped: RunFolder, trainer: Trainer, tmp_path: Path
) -> None:
    """Bits of the header, 9 apart or all, and of every 97th byte of what follows."""
    content, right = last(stopped).read_bytes(), read_checkpoint(last(stopped))
    size = 8 + int.from_bytes(content[:8], "little")
    bits = [*range(0, 8 * size, apart), *range(8 * size, 8 * len(content), 97 * 8 + 1)]
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        check_flip(tmp_path / "step-12.safetensors", bytes(changed), right, trainer)


def test_no_truncated_file_is_loaded(stopped: RunFolder, trainer: Trainer, tmp_path: Path) -> None:
    content, file = last(stopped).read_bytes(), tmp_path / "step-12.safetensors"
    lengths = {0, 1, 7, 8, 9, *range(0, len(content), len(content) // 60), len(content) - 1}
    for wrong in [*(content[:length] for length in lengths), content + b"\0", bytes(len(content))]:
        file.write_bytes(wrong)
        with pytest.raises(BadCheckpoint):
            read(file, trainer)


def unsigned(file: Path) -> None:
    """The same checkpoint as an earlier version wrote it, without the signature of its run."""
    write_checkpoint(file, read_checkpoint(file))


def unsealed(file: Path) -> None:
    """The same checkpoint as a still earlier version wrote it, without a digest either."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for key in ("sha256", "signature"):
        header["__metadata__"].pop(key, None)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


@pytest.mark.parametrize("kind", MISFITS)
def test_a_state_of_another_run_is_refused(
    kind: str, stopped: RunFolder, trainer: Trainer, tmp_path: Path
) -> None:
    change, problem = MISFITS[kind]
    file = tmp_path / "step-12.safetensors"
    write_checkpoint(file, change(read_checkpoint(last(stopped))))
    for make in (lambda _: None, unsealed):
        make(file)
        with pytest.raises(BadCheckpoint) as refused:
            read(file, trainer)
        assert str(refused.value).startswith(f"{file}: ")
        assert problem in str(refused.value)


def test_the_commands_refuse_a_state_of_another_run(
    run: RunFolder, microgpt: Callable[..., Any]
) -> None:
    mine = run.info["signature"]
    write_checkpoint(last(run), transposed(read_checkpoint(last(run))), mine)
    before = {file: file.read_bytes() for file in run.files()}
    for words in (["train", "resume=here"], ["sample", "here"], ["fork", "here", "--at-step=12"]):
        code, out, (line,) = microgpt(*words)
        assert (code, out) == (2, "")
        assert line.endswith("not a state of this run; without this file, an earlier one is taken")
    assert {file: file.read_bytes() for file in run.files()} == before
    last(run).unlink()
    assert microgpt("sample", "here")[0] == 0


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose weights have the shapes of the stopped one's."""
    words = [*STEPS, "trainer.stop_after=12", "seed=7"]
    return train_here(tmp_path_factory.mktemp("other"), *words)[1]


def test_a_whole_checkpoint_of_another_run_is_refused(
    run: RunFolder, another: RunFolder, microgpt: Callable[..., Any]
) -> None:
    shutil.copy(last(another), last(run))
    before = {file: file.read_bytes() for file in run.files()}
    for words in (["train", "resume=here"], ["sample", "here"], ["fork", "here", "--at-step=12"]):
        code, out, (line,) = microgpt(*words)
        assert (code, out) == (2, "")
        assert line.startswith(f"microgpt: {last(run)}: is of a run with another signature, ")
        assert line.endswith("not a state of this run; without this file, an earlier one is taken")
    assert {file: file.read_bytes() for file in run.files()} == before


def damages(content: bytes) -> Iterator[bytes]:
    """A torn file, a file of zeros, a flipped bit of a weight, a header that is too deep."""
    yield content[: len(content) // 2]
    yield bytes(len(content))
    changed = bytearray(content)
    changed[-30_000] ^= 1
    yield bytes(changed)
    deep = b'{"__metadata__":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    yield len(deep).to_bytes(8, "little") + deep


@pytest.mark.parametrize("which", range(4), ids=["torn", "zeros", "flip", "deep"])
def test_a_resume_goes_on_from_the_one_before(
    which: int, run: RunFolder, whole: RunFolder, microgpt: Callable[..., Any]
) -> None:
    last(run).write_bytes([*damages(last(run).read_bytes())][which])
    code, out, (line,) = microgpt("train", "resume=here", "progress=false")
    assert code == 0
    assert line.startswith(f"microgpt: {last(run)}: is ")
    assert line.endswith("; step-10 is taken instead")
    assert out.startswith("run here goes on after step 10\n")
    assert figures(run) == figures(whole)


def test_a_resume_begins_again_where_no_checkpoint_is_whole(
    run: RunFolder, whole: RunFolder, microgpt: Callable[..., Any]
) -> None:
    for file in run.checkpoints():
        file.write_bytes(b"")
    code, out, lines = microgpt("train", "resume=here", "progress=false")
    assert code == 0
    assert [line.endswith("; no other is whole") for line in lines] == [True] * 3
    assert out.startswith("run here goes on after step 0\n")
    assert figures(run) == figures(whole)


def test_a_sample_says_which_checkpoint_it_took(
    run: RunFolder, microgpt: Callable[..., Any]
) -> None:
    right = microgpt("sample", "here", "--seed=1")
    assert right[2] == []
    last(run).write_bytes(b"")
    code, out, (line,) = microgpt("sample", "here", "--seed=1")
    assert (code, line.endswith("; step-10 is taken instead")) == (0, True)
    last(run).unlink()
    assert microgpt("sample", "here", "--seed=1") == (0, out, [])
    for file in run.checkpoints():
        file.write_bytes(b"")
    code, out, lines = microgpt("sample", "here")
    assert (code, out, len(lines)) == (2, "", 3)
    assert lines[-1] == "microgpt: RUN='here': must have a whole checkpoint, but has none"


@pytest.mark.slow
def test_a_run_that_keeps_no_checkpoint_says_how_to_have_one(
    run: RunFolder, microgpt: Callable[..., Any]
) -> None:
    for file in run.checkpoints():
        file.unlink()
    config = run.path / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r"(checkpoint_every): \d+", r"\1: 0", text), encoding="utf-8")
    code, out, (line,) = microgpt("sample", "here")
    assert (code, out) == (2, "")
    why, _, again = line.partition("; the same with its last: microgpt ")
    assert why.endswith("has none: it was trained with trainer.checkpoint_every=0")
    assert microgpt(*shlex.split(again))[0] == 0
    (same,) = (each for each in all_runs(run.path.parents[1]) if each.path != run.path)
    assert same.info["parameters_sha256"] == run.info["parameters_sha256"]
    assert microgpt("sample", same.path.name)[0] == 0


@pytest.mark.parametrize("number", [NAN, float("inf"), 1e308])
def test_weights_that_diverged_give_no_samples(
    number: float, run: RunFolder, microgpt: Callable[..., Any]
) -> None:
    state = read_checkpoint(last(run))
    weights = {name: array("d", [number] * len(flat)) for name, flat in state.weights.items()}
    write_checkpoint(last(run), replace(state, weights=weights), run.info["signature"])
    for words in ([], ["--temperature=0"])[: 1 if number == 1e308 else 2]:
        code, out, (line,) = microgpt("sample", "here", *words)
        assert (code, out) == (2, "")
        assert str(run.path) in line


@pytest.mark.parametrize("make", [unsigned, unsealed])
def test_a_checkpoint_of_an_earlier_version_is_read_and_told(
    make: Callable[[Path], None], run: RunFolder, whole: RunFolder, microgpt: Callable[..., Any]
) -> None:
    for file in run.checkpoints():
        make(file)
    code, _, (line,) = microgpt("train", "resume=here", "progress=false")
    assert (code, line.startswith(f"microgpt: {last(run)}: an earlier version")) == (0, True)
    assert figures(run) == figures(whole)


def test_another_file_among_the_checkpoints_is_none(
    run: RunFolder, microgpt: Callable[..., Any]
) -> None:
    for name in ("step-12 (copy)", "step-x", "step-", "step-12.5", "step--1"):
        shutil.copy(last(run), last(run).with_name(f"{name}.safetensors"))
    assert [file.name for file in run.checkpoints()] == [
        f"step-{step}.safetensors" for step in (12, 10, 5)
    ]
    code, _, lines = microgpt("sample", "here")
    assert (code, lines) == (0, [])


def test_metrics_that_end_before_the_checkpoint(
    run: RunFolder, whole: RunFolder, microgpt: Callable[..., Any]
) -> None:
    lines = run.metrics_path.read_text().splitlines(keepends=True)
    run.metrics_path.write_text("".join(lines[:7]))
    code, out, (line,) = microgpt("train", "resume=here")
    assert (code, out) == (2, "")
    assert (
        f"{run.metrics_path}: has no step 12, unlike step-12; without the checkpoints after step 7"
        in line
    )
    for step in (10, 12):
        (run.path / f"checkpoints/step-{step}.safetensors").unlink()
    assert microgpt("train", "resume=here", "progress=false")[0] == 0
    assert figures(run) == figures(whole)
