"""The folder of a run: what lies in it, and what a crash may leave of it."""

import json
import math
import os
import pickletools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

from microgpt.core.events import Checkpointed, Sampled, Stepped
from microgpt.run.checkpoint import BadCheckpoint, read_checkpoint, write_checkpoint, write_whole
from microgpt.run.documents import keep_documents
from microgpt.run.folder import NoSuchRun, RunFolder, all_runs, find_run, latest_runs
from microgpt.run.record import KILLED, RUNNING, Busy
from tests.running import FACTS, NAMES, train_here


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder before its first step."""
    run = RunFolder(tmp_path / "runs/20261124-120000-abcdef")
    run.create({"seed": 1}, ["ada", "bob"], "", **FACTS)
    return run


def state(step: int = 7) -> Checkpointed:
    """A state with numbers that are easily lost on the way."""
    odd = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.pi, 1 / 3]
    return Checkpointed(
        step=step,
        shapes={"wte": (2, 3), "layer0.attn_wq": (3, 2)},
        weights={"wte": odd, "layer0.attn_wq": odd[::-1]},
        slots={"m": {"wte": odd, "layer0.attn_wq": odd}, "v": {"wte": odd, "layer0.attn_wq": odd}},
        streams={"data": random.Random(1).getstate()[1], "init/wte": (0, 2**32 - 1)},
        seconds=0.1 + 0.2,
    )


def test_a_line_for_each_recorded_step(folder: RunFolder) -> None:
    folder(Stepped(1, 3.0, 5, {}))  # not one to record
    folder(Stepped(2, 0.1, 5, {"train/loss": 0.1 + 0.2, "val/loss": 1 / 3, "cost/seconds": 0.5}))
    text = folder.metrics_path.read_text()  # there at once: nobody closed anything
    assert text == (
        '{"step": 2, "train/loss": 0.30000000000000004, "val/loss": 0.3333333333333333,'
        ' "cost/seconds": 0.5}\n'
    )
    assert folder.metrics() == [json.loads(text)]


def test_numbers_that_are_none_can_be_read(folder: RunFolder) -> None:
    folder(Stepped(1, math.nan, 0, {"train/loss": math.nan, "a": math.inf, "b": -math.inf}))
    (row,) = folder.metrics()
    assert math.isnan(row["train/loss"])
    assert (row["a"], row["b"]) == (math.inf, -math.inf)


def test_floats_come_back_as_they_were(folder: RunFolder) -> None:
    rng = random.Random(0)
    values = [rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300) for _ in range(1000)]
    for i, value in enumerate(values):
        folder(Stepped(i, value, 0, {"train/loss": value}))
    assert [row["train/loss"] for row in folder.metrics()] == values


def test_a_torn_last_line_is_left_out_and_cut_off(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        folder(Stepped(step, 0.0, 0, {"lr": 0.5}))
    whole = folder.metrics_path.read_bytes()
    for length in range(1, len(whole) // 3):
        folder.metrics_path.write_bytes(whole[:-length])
        assert [row["step"] for row in folder.metrics()] == [1, 2]
    folder.rewind(3)
    folder(Stepped(3, 0.0, 0, {"lr": 0.5}))
    assert folder.metrics_path.read_bytes() == whole


def test_rewinding_keeps_the_bytes_of_what_stays(folder: RunFolder) -> None:
    for step in (10, 20, 30):
        folder(Stepped(step, 0.0, 0, {"lr": math.nan}))
    lines = folder.metrics_path.read_text().splitlines(keepends=True)
    folder.rewind(25)
    assert folder.metrics_path.read_text() == "".join(lines[:2])
    folder.rewind(0)
    assert folder.metrics() == []


def test_figures_can_be_read_on_from_where_one_stopped(folder: RunFolder) -> None:
    folder(Stepped(1, 0.0, 0, {"lr": 1.0}))
    ((_, end),) = folder.metrics_from(0)
    assert list(folder.metrics_from(end)) == []
    folder(Stepped(2, 0.0, 0, {"lr": 2.0}))
    assert [row["step"] for row, _ in folder.metrics_from(end)] == [2]


def test_a_sample_is_a_line(folder: RunFolder) -> None:
    folder(Sampled(["ada", "", "é\u2028x"]))
    text = (folder.path / "samples.txt").read_text(encoding="utf-8")
    assert text.split("\n") == ["ada", "", "é\u2028x", ""]


def test_checkpoints_come_back_as_they_were(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step-7.safetensors", state())
    found = read_checkpoint(tmp_path / "step-7.safetensors")
    assert found == state()
    assert repr(found.weights["wte"]) == repr(state().weights["wte"])  # -0.0 is not 0.0


def test_the_safetensors_package_reads_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step-7.safetensors", state())
    with safe_open(tmp_path / "step-7.safetensors", framework="numpy") as file:
        weights = {"wte", "layer0.attn_wq"}
        slots = {f"optim/{slot}/{name}" for slot in "mv" for name in weights}
        assert set(file.keys()) == weights | slots | {"rng/data", "rng/init/wte"}
        assert file.metadata()["step"] == "7"
        for name in weights | slots:
            assert file.get_slice(name).get_dtype() == "F64"
        wte = file.get_tensor("wte")
        assert wte.shape == (2, 3)
        assert wte.ravel().tolist() == state().weights["wte"]


def test_a_torn_checkpoint_counts_for_nothing(folder: RunFolder) -> None:
    for step in (5, 10, 20):
        folder(state(step))
    last = folder.checkpoints()[0]
    assert last.name == "step-20.safetensors"
    content = last.read_bytes()
    for length in (0, 1, 7, 8, 100, len(content) // 2, len(content) - 1):
        last.write_bytes(content[:length])
        with pytest.raises(BadCheckpoint, match="not a complete checkpoint"):
            read_checkpoint(last)
    last.write_bytes(bytes(len(content)))  # a disk that kept the length alone
    with pytest.raises(BadCheckpoint, match="not a complete checkpoint"):
        read_checkpoint(last)


def test_a_foreign_file_is_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    numpy = pytest.importorskip("numpy")
    save_file({"x": numpy.zeros(3)}, tmp_path / "a.safetensors", {"step": "1", "seconds": "0"})
    save_file({"x": numpy.zeros((3, 3))}, tmp_path / "b.safetensors")
    for name in "ab":
        with pytest.raises(BadCheckpoint):
            read_checkpoint(tmp_path / f"{name}.safetensors")


def test_a_write_that_breaks_off_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.json"
    write_whole(file, b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_whole(file, b"new and longer")
    assert file.read_bytes() == b"old"
    monkeypatch.undo()
    write_whole(file, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]  # what was left is gone


def test_a_run_holds_its_folder(folder: RunFolder) -> None:
    folder.update(status=RUNNING)
    with folder.locked():
        assert RunFolder(folder.path).status == RUNNING
        with pytest.raises(Busy, match="another process"), RunFolder(folder.path).locked():
            pass
    with folder.locked():  # free again
        pass


def test_a_dead_process_holds_nothing(folder: RunFolder) -> None:
    code = (
        "import os, sys; from pathlib import Path; from microgpt.run.folder import RunFolder\n"
        f"with RunFolder(Path({str(folder.path)!r})).locked(): print('held', flush=True);"
        " os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "held\n"
    assert folder.status == KILLED
    with folder.locked():
        pass


def test_a_run_is_found_by_its_names(tmp_path: Path) -> None:
    ids = ["20261124-120000-abc123-1", "20261124-120000-abc123-10", "20261125-130000-ffffff"]
    for i, name in enumerate(ids):
        place = tmp_path / "runs" / name
        RunFolder(place).create({}, [], "", **FACTS)
        RunFolder(place).mlflow_run_id = f"{i}" * 32

    def found(reference: str) -> str:
        return find_run(tmp_path, reference).path.name

    assert [found(name) for name in ids] == ids  # the first is how the second begins
    assert found("20261125") == ids[2]
    assert found("1" * 32) == ids[1]
    assert found("2222") == ids[2]
    assert found(str(tmp_path / "runs" / ids[0])) == ids[0]
    assert found(str(tmp_path / "runs" / ids[2]) + "/") == ids[2]
    with pytest.raises(NoSuchRun, match="prefix of more than one run"):
        found("20261124")
    for empty in ("", " "):
        with pytest.raises(NoSuchRun, match="must name a run"):
            found(empty)
    for nobody in ("2", "222", "zzzz", str(tmp_path)):
        with pytest.raises(NoSuchRun, match="no such run or folder"):
            found(nobody)


def test_the_latest_runs_are_those_that_began_last(tmp_path: Path) -> None:
    now = time.time()
    for i in range(20):
        folder = RunFolder(tmp_path / "runs" / str(i))
        folder.create({}, [], "", **FACTS | {"begun": now - 1000 + 10 * i})
        resumed = i % 7 == 0  # its file is new, its beginning old
        os.utime(folder.path / "run.json", (now if resumed else now - 990 + 10 * i,) * 2)
    for count in (1, 2, 5, 19, 20, 30):
        latest = [run.path for run in latest_runs(tmp_path, count)]
        assert latest == [run.path for run in all_runs(tmp_path)[-count:]]
    old = tmp_path / "runs/1/run.json"
    old.write_text("nobody reads this")
    os.utime(old, (now - 980,) * 2)
    assert [run.path.name for run in latest_runs(tmp_path, 2)] == ["18", "19"]


def test_documents_above_the_limit_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microgpt.run.documents.DOCUMENTS_LIMIT", 8)
    for name, documents in (("a", ["ada", "bob"]), ("b", ["ada", "bobé"])):
        RunFolder(tmp_path / name).create({}, documents, "")
    assert (tmp_path / "a/documents.txt").read_text() == "ada\nbob\n"
    assert not (tmp_path / "b/documents.txt").exists()


def test_what_another_worker_is_writing_is_not_shared(tmp_path: Path) -> None:
    """It may be killed in the middle; each writes the documents under a name of its own."""
    shared, content = tmp_path / "data/digest.txt", ["ada", "bob"]
    shared.parent.mkdir()
    with shared.with_name(".digest.txt.new").open("wb") as other:
        keep_documents(tmp_path / "documents.txt", content, shared)
        other.write(b"x")
    assert (tmp_path / "documents.txt").read_text() == "ada\nbob\n" == shared.read_text()


def test_the_folder_of_a_run(tmp_path: Path) -> None:
    code, run = train_here(
        tmp_path, "tracking=none", "trainer.num_steps=25", "trainer.checkpoint_every=10"
    )
    assert code == 0
    names = {file.relative_to(run.path).as_posix() for file in run.files()} - {"git.diff"}
    checkpoints = {f"checkpoints/step-{n}.safetensors" for n in (10, 20, 25)}
    texts = {"config.yaml", "documents.txt", "metrics.jsonl", "run.json", "samples.txt"}
    assert names == texts | checkpoints
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(1, 26))
    assert [row["step"] for row in rows if "val/loss" in row] == [10, 20, 25]
    assert all(next(iter(row)) == "step" for row in rows)
    assert all({"train/loss", "lr", "grad_norm", "cost/seconds"} <= row.keys() for row in rows)
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    assert config["data"]["path"] == str(NAMES)
    assert config["model"]["n_embd"] == 8
    assert "hydra" not in config
    assert (run.path / "documents.txt").read_text() == NAMES.read_text()
    assert len((run.path / "samples.txt").read_text().split("\n")) == 4


@pytest.mark.parametrize(("every", "kept"), [(0, []), (1000, [12]), (12, [12])])
def test_a_final_checkpoint_always_unless_none(tmp_path: Path, every: int, kept: list[int]) -> None:
    _, run = train_here(
        tmp_path, "tracking=none", "trainer.num_steps=12", f"trainer.checkpoint_every={every}"
    )
    assert [file.name for file in run.checkpoints()] == [f"step-{n}.safetensors" for n in kept]


def test_no_pickle_anywhere(tmp_path: Path) -> None:
    _, run = train_here(tmp_path, "tracking=none", "trainer.num_steps=2")
    for file in run.path.rglob("*"):
        if file.is_file() and file.stat().st_size:
            with pytest.raises(ValueError):  # noqa: PT011  (every reason will do)
                list(pickletools.genops(file.read_bytes()))
    package = Path(__file__).parent.parent / "microgpt"
    assert not [f for f in package.rglob("*.py") if "import pickle" in f.read_text()]
