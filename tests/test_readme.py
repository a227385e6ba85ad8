"""Every command of the README, as it stands there, on runs that are cut short."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from microgpt.ablation.judge.judge import CODES
from microgpt.run.folder import all_runs
from tests.command import PROGRAM, Within, command, environment
from tests.running import REPOSITORY

pytestmark = pytest.mark.slow

SHORT = ["trainer.num_steps=20", "trainer.eval_every=10", "trainer.eval_documents=5"]
SHORT += ["trainer.checkpoint_every=10", "sampling.num_samples=2", "hydra.launcher.workers=1"]
FEW = ["model.n_head=1,4,16", "seed=range(2)"]  # of the experiment heads
# What a command names -> what the test has.
STAND_FOR = {"500": "10", "names.txt": "poems.txt", "SWEEP/best": "heads/best"}


def commands() -> list[str]:
    """The README's `microgpt` commands in the order in which they stand there."""
    lines = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    code = [line.strip() for line in lines if line.startswith("    microgpt ")]
    code = [line.partition("  #")[0].strip() for line in code]
    return [line for line in code if line != "microgpt verify --sample 1"]  # minutes of training


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    """A folder with a file of lines, a finished run and a stopped one."""
    place = tmp_path_factory.mktemp("readme")
    (place / "outputs").mkdir()
    shutil.copy(store_template, place / "outputs/mlflow.db")
    poems = (f"{n} roses are red\n{n} violets are blue\n" for n in range(50))  # some are held out
    (place / "poems.txt").write_text("".join(poems))
    words = ["train", *SHORT, "seed=1"]
    assert command(words, place).code == 0
    assert command([*words, "seed=2", "trainer.stop_after=15"], place).code == 0
    return place


def words_of(line: str, place: Path) -> Iterator[str]:
    """The words of a command as the test runs it."""
    wanted = "stopped" if "resume=" in line else "finished"
    runs = (run for run in all_runs(place / "outputs") if run.status == wanted)
    for word in shlex.split(line)[1:]:
        word = re.sub(r"\bRUN\b", lambda _: next(runs).path.name, word)
        yield STAND_FOR.get(word, word.replace("=names.txt", "=poems.txt"))
    if line.startswith("microgpt train") and not re.search(r"--|resume=", line):
        yield from SHORT
        yield from FEW if "experiment=heads" in line else []
    if line.startswith("microgpt verify heads"):
        yield "--sample=1"
    if line.startswith("microgpt judge"):
        yield from [*SHORT[:-1], "--most=5", "--workers=2"]


@pytest.mark.filterwarnings("default")  # MLflow gives some, as it is imported
def test_every_command_of_the_readme(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for name in ("MICROGPT_OUTPUTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    microgpt, lines = Within(monkeypatch, capfd), commands()
    assert len(lines) > 15
    for line in lines:
        if not line.startswith("microgpt ui"):
            words = [*words_of(line, place)]
            # MLflow leaves the address of the store in the environment of who registers.
            own = line.startswith("microgpt register")
            ended = command(words, place) if own else microgpt(*words)
            answers = CODES.values() if line.startswith("microgpt judge") else [0]
            assert ended.code in answers, (line, ended)
            assert "Traceback" not in ended.err, (line, ended)


def test_the_ui_answers_where_it_says(place: Path) -> None:
    lines = [line for line in commands() if line.startswith("microgpt ui")]
    assert len(lines) == 2  # the other is that of browser/test_sweep_ui.py
    process = subprocess.Popen(
        [PROGRAM, *lines[0].split()[1:], "--port", "0"],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = next(said.split()[1] for said in process.stdout if said.startswith("open"))
        with urlopen(address, timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 0
