"""The command line as its users have it: help, sweeps, own configurations, tab completion, a wheel."""

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pexpect
import pytest
import yaml

from microgpt import __version__
from microgpt.run.folder import RunFolder
from microgpt.run.record import FINISHED
from tests.command import NAMES, OFFLINE, PROGRAM, TINY, command, environment

ROOT = Path(__file__).parent.parent
HEAVY = ("mlflow", "numpy", "pandas", "safetensors", "rich", "sqlalchemy")


def test_help_begins_with_a_screen_of_ours(tmp_path: Path) -> None:
    ended = command(["train", "--help"], tmp_path)
    assert (ended.code, ended.err) == (0, "")
    first = ended.out.split("== Keys")[0]
    assert len(first.splitlines()) <= 40
    screen = ended.out.splitlines()[:24]
    for words in ("microgpt train -m", "--cfg job", "--config-dir", "-sc install=bash", "resume="):
        assert any(words in line for line in screen), words
    keys = [line for line in ended.out.split("== Keys")[1].splitlines()[1:] if ":" in line]
    told = [line for line in keys if "_target_" not in line and not line.rstrip().endswith(":")]
    assert len(told) > 40
    assert [line for line in told if "  # " not in line] == []  # what it means
    assert "model/norm=rmsnorm: RMSNorm" in ended.out
    for there in (
        "model/norm: layernorm, layernorm_affine, none, rmsnorm",
        "num_steps: ",
        "seed: 42",
    ):
        assert there in ended.out
    assert list(tmp_path.iterdir()) == []


def test_commands_tell_what_they_take(tmp_path: Path) -> None:
    for words in ([], ["-h"], ["--help"]):
        ended = command(words, tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert {"train", "sample", "runs", "ui", "sync"} <= set(ended.out.split())
        assert len(ended.out.splitlines()) <= 24
    assert command(["--version"], tmp_path).out == f"microgpt {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from microgpt.cli import main; sys.argv = ['microgpt', 'train', '--help']\n"
        "try: main()\n"
        "finally: print('IMPORTED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = done.stdout.rpartition("IMPORTED")[2].split()
    assert "hydra" in imported
    assert not set(HEAVY) & set(imported)


def test_the_configuration_is_shown_without_a_run(tmp_path: Path) -> None:
    ended = command(["train", "--cfg", "job", "model=microgpt", "seed=7"], tmp_path)
    shown = yaml.safe_load(ended.out)
    assert (ended.code, ended.err, shown["seed"]) == (0, "", 7)
    assert list(shown)[:3] == ["seed", "experiment", "description"]
    ended = command(["train", "--info", "searchpath"], tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert str(ROOT / "conf") in ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working directory of the user's own, with a few names in it."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path


WORDS = ["train", *TINY, *OFFLINE, "data.path=names.txt"]


def test_a_sweep_has_a_folder_for_each_job(place: Path) -> None:
    # flags may stand anywhere, and a value may come from another key
    words = [*WORDS, "-m", "seed=1,2", "trainer.eval_every=${trainer.num_steps}"]
    words += ["hydra/launcher=basic"]
    ended = command(words, place)
    assert (ended.code, ended.err) == (0, "")
    runs = [yaml.safe_load(file.read_text()) for file in place.glob("outputs/runs/*/config.yaml")]
    assert sorted(run["seed"] for run in runs) == [1, 2]
    (sweep,) = (place / "outputs/sweeps").iterdir()
    assert {run["sweep"] for run in runs} == {sweep.name}
    assert not (place / "multirun").exists()


def test_two_runs_of_one_second_have_two_folders(place: Path) -> None:
    processes = [
        subprocess.Popen([PROGRAM, *WORDS], cwd=place, env=environment(), stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    assert len(list((place / "outputs/runs").glob("*/samples.txt"))) == 2


def test_outputs_go_where_they_are_told(place: Path) -> None:
    ended = command(WORDS, place, MICROGPT_OUTPUTS=str(place / "else where"))
    assert (ended.code, ended.err) == (0, "")
    assert len(list((place / "else where/runs").glob("*/samples.txt"))) == 1
    assert not (place / "outputs").exists()


@pytest.mark.parametrize("words", [["--help"], ["--info"], [*WORDS[1:], "progress=true"]], ids=len)
def test_a_reader_that_goes_is_no_fault(words: list[str], place: Path) -> None:
    line = f"{PROGRAM} train {shlex.join(words)} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    ends = [RunFolder(file.parent).status for file in place.glob("outputs/runs/*/run.json")]
    assert ends == [FINISHED] * ("progress=true" in words)


def test_configs_and_classes_of_the_users_own(place: Path) -> None:
    own = place / "own"
    (own / "model/norm").mkdir(parents=True)
    (own / "model/mine.yaml").write_text(
        "defaults:\n  - microgpt\n  - override norm: half\n  - _self_\nn_layer: 2\n"
    )
    (own / "model/norm/half.yaml").write_text("_target_: half.Half\nshare: 0.5\n")
    (own / "half.py").write_text(
        "class Half:\n"
        "    def __init__(self, *, share): self.share = share\n"
        "    def shapes(self, dims, site): return {}\n"
        "    def __call__(self, ops, w, x, site): return ops.mul(x, self.share)\n"
    )
    words = [*WORDS, "--config-dir", "own", "model=mine"]
    ended = command(words, place, PYTHONPATH=str(own))
    assert (ended.code, ended.err) == (0, "")
    (run,) = (place / "outputs/runs").iterdir()
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert (model["n_layer"], model["norm"]) == (2, {"_target_": "half.Half", "share": 0.5})


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator["pexpect.spawn[str]"]:
    """An interactive bash with completion installed."""
    env = environment(PATH=f"{Path(PROGRAM).parent}:/usr/bin:/bin", PS1="> ", TERM="dumb")
    place = tmp_path_factory.mktemp("place")
    for file in (
        "runs/20260102-030405-abcdef/run.json",
        "sweeps/0123456789ab-01234567/sweep.json",
        "reports/own_question/results.lock.json",
        "runs/2026$(touch ran)/run.json",  # of somebody who hopes that Bash expands it
    ):
        (place / "outputs" / file).parent.mkdir(parents=True)
        (place / "outputs" / file).touch()
    (place / "mine$(touch ran).txt").touch()
    for option in ("model/norm/half", "experiment/own_plan"):
        (place / "own" / option).parent.mkdir(parents=True)
        (place / "own" / f"{option}.yaml").touch()
    where = str(place)
    shell = pexpect.spawn(
        "bash --norc --noprofile -i", env=env, cwd=where, encoding="utf-8", timeout=30
    )
    shell.sendline("bind 'set enable-bracketed-paste off'; bind 'set completion-query-items 0'")
    shell.sendline("bind 'set page-completions off'; bind 'set show-all-if-ambiguous on'")
    shell.sendline('eval "$(microgpt train -sc install=bash)"; echo READY$((1+1))')
    shell.expect("READY2")
    shell.expect("> ")
    yield shell
    shell.close(force=True)


OPTIONS = [
    ("microgpt verify --seg", "microgpt verify --segments"),
    ("microgpt runs --sort be", "microgpt runs --sort begun"),
    ("microgpt train --multi", "microgpt train --multirun"),
    ("microgpt report --config-dir own own_p", "own own_plan"),
    ("microgpt train --config-dir own model/norm=ha", "own model/norm=half"),
]


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        *(pytest.param(*each, marks=pytest.mark.slow) for each in OPTIONS),
        ("microgpt tr", "microgpt train"),
        ("microgpt sa", "microgpt sample"),
        ("microgpt sample 2026", "microgpt sample 20260102-030405-abcdef"),
        ("microgpt register 2026", "microgpt register 20260102-030405-abcdef"),
        ("microgpt compare 0123", "microgpt compare 0123456789ab-01234567"),
        ("microgpt ui 0123", "microgpt ui 0123456789ab-01234567"),
        ("microgpt ui 2026", "microgpt ui 20260102-030405-abcdef"),
        ("microgpt report hea", "microgpt report heads"),
        ("microgpt verify wid", "microgpt verify width"),
        ("microgpt verify own_q", "microgpt verify own_question"),
        ("microgpt train resume=20", "microgpt train resume=20260102-030405-abcdef"),
        ("microgpt train mod", "microgpt train model"),
        ("microgpt train model/nor", "microgpt train model/norm="),
        ("microgpt train model/norm=la", "microgpt train model/norm=layernorm"),
        ("microgpt train seed=1 model/norm=la", "microgpt train seed=1 model/norm=layernorm"),
        ("microgpt train optimizer.be", "microgpt train optimizer.beta"),
        ("microgpt train -m optimizer.w", "microgpt train -m optimizer.w"),
        ("microgpt train optimizer=adamw optimizer.w", "optimizer=adamw optimizer.weight_decay="),
    ],
)
def test_tab_completes(typed: str, there: str, bash: "pexpect.spawn[str]") -> None:
    bash.send(f"{typed}\t")
    bash.sendcontrol("a")
    bash.send("echo '")
    bash.sendcontrol("e")
    bash.send("'END\n")
    bash.expect(r"\n([^\n>]*)END\r\n")
    assert bash.match.group(1).startswith(there) or there in bash.match.group(1)
    bash.expect("> ")


@pytest.mark.parametrize("typed", ["sample 20", "train resume=20", "train data.path=mi"])
def test_a_name_that_is_completed_is_not_executed(typed: str, bash: "pexpect.spawn[str]") -> None:
    bash.send(f"microgpt {typed}\t")
    bash.sendcontrol("u")
    bash.sendline("test -e ran; echo RAN$?")
    bash.expect(r"RAN(\d)")
    assert bash.match.group(1) == "1"


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    """Installed alone, it trains, sweeps, reports, verifies, looks inside, and shows all in the UI."""
    source, venv, place = tmp_path / "source", tmp_path / "venv", tmp_path / "place"
    ignored = shutil.ignore_patterns(".*", "outputs", "tests", "experiments", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    aside = ("tests/", "outputs/", "experiments/")
    for folder in aside:
        (source / folder).mkdir()
        (source / folder / "there.py").touch()
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(ZipFile(wheel).namelist())
    assert {"microgpt/_conf/train.yaml", "microgpt/datasets/names.txt"} <= inside
    assert not [name for name in inside if name.startswith(("conf/", *aside))]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    # The dependencies of this environment serve the fresh one, but not its microgpt.
    packages = Path(yaml.__file__).parent.parent
    (site / "dependencies.pth").write_text(f"{packages}\n")
    python = str(venv / "bin/python")
    subprocess.run([*pip, "--python", python, "install", "--no-deps", str(wheel)], check=True)
    alone = environment(PYTHONPATH="")  # of a checkout, perhaps
    place.mkdir()
    (place / "names.txt").write_text("\n".join(NAMES))
    program = str(venv / "bin/microgpt")
    where = [python, "-c", "import microgpt; print(microgpt.__file__)"]
    done = subprocess.run(where, cwd=place, env=alone, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(site))
    tiny = ["train", *TINY, "progress=false"]
    sweep = ["experiment=heads", "model.n_head=1,4,16", "model.n_embd=16", "seed=1,2"]

    def succeeds(*words: str) -> None:
        assert subprocess.run([program, *words], cwd=place, env=alone, check=False).returncode == 0

    succeeds(*tiny, "data.path=names.txt")
    (run,) = (file.parent.name for file in place.glob("outputs/runs/*/run.json"))
    succeeds(*tiny, "-m", *sweep, "trainer.eval_every=1", "hydra.launcher.workers=1")
    succeeds("report", "heads")
    succeeds("verify", "outputs/reports/heads", "--sample", "1")
    succeeds("inspect", run)
    succeeds("verify", run)
    assert len(list(place.glob("outputs/runs/*/samples.txt"))) == 7
    assert len(list(place.glob("outputs/inspect/*.html"))) == 1
    for name in ("mlflow", "uvicorn", "sqlalchemy"):  # what lies here is not imported
        (place / f"{name}.py").write_text("raise SystemExit('this is of the current folder')")
    ui = [program, "ui", "heads", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(ui, cwd=place, env=alone, stdout=pipe, text=True) as server:
        assert server.stdout is not None
        said = next(line for line in server.stdout if line.startswith("open"))
        page = urlopen(said.split()[1].partition("/#")[0])  # the page that shows it
        assert b"MLflow" in page.read()
        server.send_signal(signal.SIGINT)
