"""Wrong input: one line that names the key, the value and what is allowed; exit 2; nothing written."""

import os
from pathlib import Path

import pytest

from microgpt.run.folder import RunFolder
from tests.command import NAMES, OFFLINE, TINY, Ended, Within, command, files

# What is written behind `microgpt train`, and what its one line of complaint must hold.
TRAIN: list[tuple[str, list[str]]] = [
    # keys and options
    ("foo=1", ["foo=1", "no such key", "seed", "trainer"]),
    ("+foo=1", ["foo=1", "no such key"]),
    ("~seed", ["seed", "is missing"]),
    ("~optimizer", ["optimizer", "is missing"]),
    ("+seed=3", ["+seed=3", "without the +"]),
    ("n_layer=2", ["n_layer=2", "did you mean model.n_layer?"]),
    ("model.n_layr=2", ["model.n_layr=2", "did you mean model.n_layer?"]),
    ("trainer.steps=9", ["trainer.steps=9", "did you mean trainer.num_steps?"]),
    ("trainer.colour=9", ["trainer.colour=9", "num_steps, batch_size"]),
    ("+model.colour=1", ["model.colour=1", "no such key", "n_embd"]),
    ("+model.norm.gain=1", ["model.norm.gain=1", "no such key", "eps"]),
    ("+model.vocab_size=5", ["model.vocab_size=5", "no such key"]),
    ("+trainer.colour=1", ["trainer.colour=1", "no such key", "num_steps"]),
    ("+optimizer.nesterov=true", ["optimizer.nesterov=true", "no such key", "beta1"]),
    ("optimizer=sgd optimizer.beta1=0.5", ["optimizer.beta1=0.5", "momentum"]),
    ("optimizer=adm", ["optimizer=adm", "adam, adam_original, adamw, lion, muon, sgd"]),
    ("model/norm=layer", ["model/norm=layer", "layernorm, none, rmsnorm"]),
    ("experiment=nope", ["experiment=nope", "original"]),
    ("+experiment=original", ["+experiment=original", "without the +"]),
    ("optimizr=adam", ["optimizr=adam", "did you mean optimizer?"]),
    ("model/nrm=none", ["model/nrm=none", "did you mean model/norm?"]),
    ("hydra/launcher=nope", ["hydra/launcher", "nope", "basic"]),
    ("model=null", ["model=null", "gpt"]),
    ("optimizer=null", ["optimizer=null", "adam"]),
    ("model.norm=3", ["model.norm=3", "model/norm=OPTION"]),
    ("trainer=3", ["trainer=3", "trainer.KEY=VALUE"]),
    # how overrides are written
    ("a==b", ["a==b", "key=value"]),
    ("=3", ["=3", "key=value"]),
    ("model.n_layer=[1", ["model.n_layer=[1", "key=value"]),
    ("seed", ["seed", "key=value"]),
    ("seed=${nothing}", ["seed", "nothing"]),
    ("seed=${oc.env:NO_SUCH}", ["seed", "NO_SUCH"]),
    ("--nope", ["--nope", "--help"]),
    ("--cfg nope", ["--cfg", "nope", "job"]),
    # values
    ("model.n_head=3", ["model.n_head=3", "divide", "n_embd=4"]),
    ("model.block_size=0", ["model.block_size=0", ">= 1"]),
    ("model.block_size=100000000000000", ["model.block_size=", "10,000,000 parameters"]),
    ("model.n_layer=100000000000000", ["model.n_layer=", "10,000,000 parameters"]),
    ("model.n_embd=100000000000000", ["model='GPT'", "10,000,000 parameters", "mlp_fc1"]),
    ("model.mlp.expansion=10000000", ["model='GPT'", "10,000,000 parameters", "mlp_fc1"]),
    ("model.n_layer=-1", ["model.n_layer=-1", ">= 0"]),
    ("model.n_layer=abc", ["model.n_layer='abc'", "integer"]),
    ("model.n_embd=4.5", ["model.n_embd=4.5", "integer"]),
    ("model.norm.eps=0", ["model.norm.eps=0", "> 0"]),
    ("data.val_fraction=1", ["data.val_fraction=1", "< 1"]),
    ("data.val_fraction=-0.1", ["data.val_fraction=-0.1", ">= 0"]),
    ("data.split_seed=-1", ["data.split_seed=-1", ">= 0"]),
    ("optimizer.lr=-1", ["optimizer.lr=-1", "> 0"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "> 0"]),
    ("optimizer.lr=inf", ["optimizer.lr=inf", "> 0"]),
    ("optimizer.lr=0", ["optimizer.lr=0", "> 0"]),
    ("optimizer.lr=abc", ["optimizer.lr='abc'", "> 0"]),
    ("optimizer.lr=true", ["optimizer.lr=true", "> 0"]),
    ("optimizer.lr=null", ["optimizer.lr=null", "> 0"]),
    ("optimizer.beta1=1", ["optimizer.beta1=1", "< 1"]),
    ("optimizer.eps=0", ["optimizer.eps=0", "> 0"]),
    ("trainer.num_steps=0", ["trainer.num_steps=0", ">= 1"]),
    ("trainer.num_steps.x=0", ["trainer.num_steps.x=0", "holds no keys"]),
    ("trainer.batch_size=0", ["trainer.batch_size=0", ">= 1"]),
    ("trainer.log_every=-1", ["trainer.log_every=-1", ">= 0"]),
    ("trainer.stop_after=0", ["trainer.stop_after=0", ">= 1"]),
    ("trainer.clip_norm=0", ["trainer.clip_norm=0", "> 0"]),
    ("schedule.warmup_steps=-1", ["schedule.warmup_steps=-1", ">= 0"]),
    ("sampling.temperature=-1", ["sampling.temperature=-1", ">= 0"]),
    ("sampling.temperature=1e-320", ["sampling.temperature=1e-320", ">= 0", "1e-09"]),
    ("sampling.top_p=0", ["sampling.top_p=0", "> 0"]),
    ("seed=-1", ["seed=-1", ">= 0"]),
    ("seed=1.5", ["seed=1.5", "integer"]),
    ("progress=3", ["progress=3", "true or false"]),
    ("tracking=mlflow tracking.uri=nonsense", ["tracking.uri='nonsense'", "http://", "sqlite"]),
    ("tracking=mlflow tracking.experiment=null", ["tracking.experiment=null", "name"]),
    # data
    ("data.path=empty.txt", ["data.path='empty.txt'", "at least one document"]),
    ("data.path=latin.txt", ["data.path='latin.txt'", "UTF-8", "byte 1"]),
    ("data.path=missing.txt", ["data.path='missing.txt'", "No such file"]),
    ("data.path=own", ["data.path='own'", "directory"]),
    ("data.path=3", ["data.path=3", "file"]),
    ("data.path=", ["data.path=''", "file"]),
    ("data=lines", ["data.path", "data.path="]),
    # configurations and classes of the user's own
    ("--config-dir nowhere", ["--config-dir nowhere", "no such folder"]),
    ("--config-dir own model=mine2", ["model=mine2", "gpt, mine"]),
    ("--config-dir own model=mine", ["model.norm._target_='mine.Norm'", "No module named 'mine'"]),
    ("--config-dir own schedule=broken", ["broken.yaml", "line 2"]),
    ("model.norm._target_=microgpt.core.model.Nope", ["model.norm._target_", "Nope"]),
    # runs and where they are kept
    ("paths.outputs=null", ["paths.outputs=null", "folder"]),
    ("paths.outputs=empty.txt", ["paths.outputs=empty.txt", "empty.txt is not a folder"]),
    (
        "paths.outputs=empty.txt/deeper",
        ["paths.outputs=empty.txt/deeper", "empty.txt is not a folder"],
    ),
    ("hydra.run.dir=null", ["hydra.run.dir"]),
    ("hydra.run.dir=empty.txt/run", ["empty.txt"]),
    # flags
    ("--cfg job --info", ["--cfg", "--info"]),
    ("--resolve", ["--resolve", "--cfg"]),
    ("--config-dir", ["--config-dir", "argument"]),
    ("--config-name nope", ["nope"]),
    ("--experimental-rerun x", ["--experimental-rerun", "resume=RUN"]),
    ("-sc install=nope", ["nope", "bash"]),
    ("--config-dir own schedule=latin", ["UTF-8", "latin.yaml"]),
    # sweeps that cannot begin
    ("-m seed=1,2 hydra/sweeper=basic", ["hydra.sweeper._target_", "hydra/sweeper=microgpt"]),
    ("-m seed=range(1,9,0)", ["seed=range(1,9,0)"]),
    ("-m seed=1,2 tracking=mlflow tracking.uri=nonsense", ["tracking.uri='nonsense'"]),
    ("-m optimizer=adam,adm", ["optimizer=adm", "adam, adam_original, adamw, lion, muon, sgd"]),
    ("-m optimizer=adam,null", ["optimizer=null", "no such option", "adam"]),
    ("-m foo=1,2", ["foo=1,2", "no such key"]),
    ("-m foo=1,2 hydra/launcher=basic", ["foo=1,2", "no such key"]),
    ("-m seed=1,2 hydra/launcher=dsk", ["hydra/launcher/dsk", "basic, dask"]),
    ("-m seed=1,", ["seed=1,", "key=value"]),
]

OTHER: list[tuple[str, list[str]]] = [
    ("nope", ["nope", "no such command", "train, sample, runs"]),
    ("--nope", ["--nope", "no such command"]),
    ("train resume=nope", ["resume=nope", "no such run", "microgpt runs"]),
    ("train resume=", ["resume=''", "must name a run", "microgpt runs"]),
    ("sample", ["RUN", "required"]),
    ("sample nope", ["nope", "no such run", "microgpt runs"]),
    ("sample nope --loud", ["--loud", "--help"]),
    ("sample nope --seed x", ["--seed", "'x'"]),
    ("runs -n -1", ["-n", "-1", "at least 0"]),
    ("runs -n x", ["-n", "'x'"]),
    ("sync nope", ["nope", "no such run"]),
    ("ui --uri nonsense", ["uri='nonsense'", "sqlite"]),
    ("ui --port x", ["--port", "'x'"]),
]

# Those that are run as processes, the rest within this one.
PROCESSES = {
    *("foo=1", "optimizer=adm", "optimizr=adam", "a==b", "--nope", "model.n_head=3"),
    *("optimizer.lr=nan", "data.path=latin.txt", "--config-dir own model=mine", "trainer=3"),
    *("paths.outputs=empty.txt", "-m optimizer=adam,adm", "seed=${nothing}", "-m foo=1,2"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that are not fit for training."""
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes("zoë\n".encode("latin-1")[1:])
    for group, name, text in [
        ("model", "mine", "defaults:\n  - gpt\n  - _self_\nnorm:\n  _target_: mine.Norm\n"),
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


def refused(ended: Ended, parts: list[str]) -> None:
    assert (ended.code, ended.out) == (2, ""), ended
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith("microgpt: "), ended.err
    assert len(ended.err) < 400, ended.err
    missing = [part for part in parts if part not in ended.err]
    assert not missing, f"{missing} not in {ended.err}"


def spelt(wrong: str) -> list[str]:
    """The command line; the wrong words come last, where they win."""
    return ["train", *TINY, *OFFLINE, *wrong.split()]


@pytest.mark.parametrize(("wrong", "parts"), TRAIN, ids=[wrong for wrong, _ in TRAIN])
def test_training_that_cannot_be(
    wrong: str,
    parts: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = files(place)
    if wrong in PROCESSES:
        ended = command(spelt(wrong), place)
    else:
        ended = Within(monkeypatch, capfd)(*spelt(wrong))
    refused(ended, parts)
    assert files(place) == before


def test_there_are_enough_of_them() -> None:
    assert {wrong for wrong, _ in TRAIN} >= PROCESSES
    assert len(PROCESSES) >= 12
    assert len(TRAIN) >= 30


@pytest.mark.parametrize(("wrong", "parts"), OTHER, ids=[wrong for wrong, _ in OTHER])
def test_commands_that_cannot_be(
    wrong: str,
    parts: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = files(place)
    refused(Within(monkeypatch, capfd)(*wrong.split()), parts)
    assert files(place) == before


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("MICROGPT_OUTPUTS", "empty.txt", ["empty.txt", "is not a folder"]),
        ("MLFLOW_TRACKING_URI", "nonsense", ["tracking.uri='nonsense'", "sqlite"]),
    ],
)
def test_an_environment_that_cannot_be(
    name: str, value: str, parts: list[str], place: Path
) -> None:
    before = files(place)
    refused(command(["train", *TINY], place, **{name: value}), parts)
    assert files(place) == before


def test_a_download_without_a_network(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No network, as the proxy that nobody is behind makes sure."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "own"))
    ended = Within(monkeypatch, capfd)(*spelt("data=makemore"))
    refused(ended, ["data.path=null", "cannot download", "data.path=FILE"])
    assert files(place / "outputs") == []


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """The id of a run on a few names, stopped half way."""
    (place / "names.txt").write_text("\n".join(NAMES))
    words = ["data.path=names.txt", "trainer.stop_after=1"]
    ended = Within(monkeypatch, capfd)("train", *TINY, *OFFLINE, *words)
    assert (ended.code, ended.err) == (0, "")
    (folder,) = (place / "outputs/runs").iterdir()
    return folder.name


def test_a_run_that_is_there_keeps_its_own(
    run: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before, within = files(place), Within(monkeypatch, capfd)
    refused(within("train", f"resume={run}", "model.n_layer=2"), ["model.n_layer=2", "stop_after"])
    refused(within("train", f"resume={run}", "optimizer=sgd"), ["optimizer=sgd", "stop_after"])
    refused(within("sample", run, "--prompt", "aX"), ["prompt='aX'", "'X'", "vocabulary"])
    refused(within("sample", run, "--prompt", "aaaaa"), ["prompt='aaaaa'", "block_size=4"])
    refused(within("sample", run, "--temperature", "-1"), ["temperature=-1", ">= 0"])
    refused(within("sample", run, "--top-p", "0"), ["top_p=0", "> 0"])
    refused(within("sample", run, "--seed", "-1"), ["seed=-1", ">= 0"])
    assert files(place) == before


def test_a_sample_needs_no_file_but_the_runs_own(
    run: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "names.txt").unlink()
    within = Within(monkeypatch, capfd)
    drawn = within("sample", run, "-n", "3", "--seed", "1", "--prompt", "an")
    assert (drawn.code, drawn.err) == (0, "")
    assert [line[:2] for line in drawn.out.splitlines()] == ["an"] * 3
    assert within("sample", run, "-n", "3", "--seed", "1", "--prompt", "an").out == drawn.out
    (place / f"outputs/runs/{run}/documents.txt").write_text("other\n")
    refused(within("sample", run), ["other documents"])


def test_a_bad_job_among_good_ones(place: Path) -> None:
    words = ["-m", "model.n_head=1,3,2", "trainer.checkpoint_every=0"]
    ended = command(["train", *TINY, *OFFLINE, *words], place)
    assert ended.code == 1
    assert ended.err == "microgpt: n_head=3 failed: model.n_head=3: must divide n_embd=4\n"
    runs = sorted(RunFolder(file.parent).status for file in place.glob("outputs/runs/*/run.json"))
    assert runs == ["failed", "finished", "finished"]


def test_a_sweep_that_is_none(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refused whole, before its first job."""
    within = Within(monkeypatch, capfd)
    refused(within(*spelt("-m seed=1,2 resume=there")), ["resume=there", "without -m"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.zip=[seed,optimizer.lr]")), ["optimizer.lr"])
    refused(within(*spelt("-m seed=interval(1,2)")), ["seed=interval(1,2)", "range"])
    refused(within(*spelt("-m seed=1,2 model.n_heads=2")), ["model.n_heads=2", "n_head"])
    refused(within(*spelt("-m seed=1,2 hydra.launcher.workers=0")), ["workers=0", ">= 1"])
    refused(within(*spelt("-m seed=1,2 hydra.launcher.memory_limit=lots")), ["lots", "2GB"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.zip=5")), ["hydra.sweeper.zip=5", "list"])
    refused(within(*spelt("-m seed=1,2 hydra.sweeper.arms=[1]")), ["hydra.sweeper.arms=[1]"])
    assert files(place / "outputs") == []


def test_a_folder_that_was_there_before_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = files(place)
    ended = Within(monkeypatch, capfd)(*spelt("hydra.run.dir=. optimizer.lr=-1"))
    refused(ended, ["optimizer.lr=-1"])
    assert files(place) == before


@pytest.mark.parametrize("there", [[], [".lock"], [".lock", "notes.txt"]])
def test_a_folder_of_someone_elses_stays(
    there: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    for name in there:
        (theirs / name).touch()
    before = files(place)
    within = Within(monkeypatch, capfd)
    refused(within(*spelt("hydra.run.dir=theirs optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before
    refused(within(*spelt("hydra.run.dir=theirs/new/deeper optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before


def test_folders_of_runs_that_were_there_before_stay(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "outputs/runs").mkdir()
    (place / "outputs/sweeps").mkdir()
    before = files(place)
    refused(Within(monkeypatch, capfd)(*spelt("optimizer.lr=-1")), ["optimizer.lr=-1"])
    assert files(place) == before


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    "words",
    [
        *(["train", "resume={}"], ["train", "resume='{}'"], ["sample", "{}"], ["sync", "{}"]),
        *(["verify", "{}"], ["ui", "{}"], ["report", "{}"], ["compare", "{}", "{}"]),
        ["fork", "{}", "--at-step", "1"],
    ],
    ids=" ".join,
)
def test_an_empty_name_names_no_run(
    words: list[str],
    empty: str,
    run: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Where there is one run without an MLflow id, which is empty too."""
    before = files(place)
    refused(Within(monkeypatch, capfd)(*(word.format(empty) for word in words)), ["must name"])
    assert files(place) == before


FAULTY = """
from microgpt.core.schedule.constant import Constant
from microgpt.datasets.sources import Names

class Late(Constant):
    def decay(self, progress):
        raise ValueError("a fault of the program")

class Early(Constant):
    def __init__(self, **settings):
        raise ValueError("a fault of the program")

class Wrong(Constant):
    def __init__(self, **settings):
        raise TypeError("a fault of the program")

class Unread(Names):
    def documents(self):
        raise TypeError("a fault of the program")
"""


@pytest.mark.parametrize(
    "target", ["schedule:Late", "schedule:Early", "schedule:Wrong", "data:Unread"]
)
def test_a_fault_of_the_program_says_where(
    target: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "faulty.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(place)
    group, _, name = target.partition(":")
    words = f"schedule=constant {group}._target_=faulty.{name}"
    ended = Within(monkeypatch, capfd)(*spelt(words))
    assert ended.code == 1, ended
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert 'faulty.py", line ' in ended.err
    assert ended.err.endswith("Error: a fault of the program\n")
