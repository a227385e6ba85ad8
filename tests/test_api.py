"""`import microgpt`: what the commands do, as functions."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

import microgpt
from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.core.events import Stepped
from microgpt.run.folder import all_runs
from tests.command import OFFLINE, TINY, Within
from tests.conftest import Here
from tests.running import REPOSITORY, SLOWLY, untracked
from tests.sweeps import Made
from tests.test_resume import Signals

QUICK = [*TINY, *OFFLINE]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> microgpt.Run:
    """A small run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MICROGPT_OUTPUTS", raising=False)
    return microgpt.train([*QUICK, "trainer.eval_every=1", "trainer.log_every=1"])


def test_train_returns_what_the_command_makes(
    run: microgpt.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder,) = all_runs(Path("outputs"))
    assert (run.id, run.folder, run.status) == (folder.path.name, folder.path, "finished")
    assert run.facts["name"].startswith("n_embd=4 n_head=2")
    assert run.config["model"]["n_embd"] == 4
    assert len(run.samples) == 2
    metrics = run.metrics()
    assert list(metrics.index) == [1, 2]
    assert metrics["val/loss"].to_list() == [row["val/loss"] for row in folder.metrics()]
    assert capfd.readouterr() == ("", "")
    assert run.id in repr(run)


def test_progress_prints_what_the_command_prints(
    run: microgpt.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in QUICK if not word.startswith("progress")]
    other = microgpt.train(words, progress=True)
    said = capfd.readouterr().out
    assert "step      2 / 2" in said
    assert other.id in said


def test_a_sweep_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither its progress nor the table of its arms."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MICROGPT_OUTPUTS", raising=False)
    quick = [word for word in QUICK if not word.startswith("progress")]
    microgpt.sweep([*quick, "trainer.eval_every=1", "seed=1,2", "hydra/launcher=basic"])
    assert capfd.readouterr() == ("", "")


def test_a_run_is_found_as_by_the_commands(run: microgpt.Run) -> None:
    for reference in (run.id, run.id[:-2], run.folder, str(run.folder)):
        assert microgpt.load(reference).folder == run.folder
    listed = microgpt.runs()
    assert listed.loc[run.id, "status"] == "finished"
    assert listed.loc[run.id, "val/loss"] == run.metrics()["val/loss"].iloc[-1]


def test_samples_are_those_of_the_command(run: microgpt.Run, here: Here) -> None:
    said, _ = here(
        Path("outputs"),
        "sample",
        run.id,
        *["-n", "3", "--seed", "7", "--prompt", "ma"],
        *["--temperature", "0.7"],
    )
    assert run.sample(3, seed=7, prompt="ma", temperature=0.7) == said.splitlines()


@pytest.mark.parametrize("data", ["names", "text"])
def test_logits_are_those_that_samples_are_drawn_from(
    data: str, run: microgpt.Run, tmp_path: Path
) -> None:
    """With temperature 0 a sample follows the largest logit."""
    (tmp_path / "prose.txt").write_text("roses are red\nviolets are blue\n" * 40)
    own = ["data=text", "data.path=prose.txt"] if data == "text" else []
    run = microgpt.train([*QUICK, *own, "trainer.num_steps=30"])
    text, block_size = "", 10
    while len(text) < block_size:
        logits = run.logits(text)
        assert logits.shape == (len(text) + 1, logits.columns.size)
        if (token := logits.iloc[-1].idxmax()) == "":
            break
        text += token
    assert run.sample(1, temperature=0) == [text]
    assert math.isfinite(logits.to_numpy().sum())


WRONG: dict[str, tuple[Callable[[microgpt.Run], object], str]] = {
    "an unknown key": (lambda run: microgpt.train(["model.heads=1"]), "train model.heads=1"),
    "a wrong value": (lambda run: microgpt.train(["model.n_head=3"]), "train model.n_head=3"),
    "a missing file": (
        lambda run: microgpt.train(["data=lines", "data.path=no.txt"]),
        "train data=lines data.path=no.txt",
    ),
    "a sweep without sense": (
        lambda run: microgpt.sweep(["model.n_head=3,5"]),
        "train -m model.n_head=3,5",
    ),
    "no such run": (lambda run: microgpt.train(["resume=nowhere"]), "train resume=nowhere"),
    "a prompt": (lambda run: run.sample(prompt="Q"), "sample RUN --prompt Q"),
    "a temperature": (lambda run: run.sample(temperature=-1.0), "sample RUN --temperature -1"),
    "no store": (lambda run: microgpt.arms("heads"), "report heads"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_the_command_s_line(
    name: str,
    run: microgpt.Run,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    call, words = WRONG[name]
    before = sorted(Path("outputs").rglob("*"))
    with pytest.raises(microgpt.Error) as error:
        call(run)
    assert sorted(Path("outputs").rglob("*")) == before
    ended = Within(monkeypatch, capfd)(*words.replace("RUN", run.id).split())
    assert ended.code == 2
    assert ended.err == f"microgpt: {error.value}\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda run: microgpt.train("seed=1"), "overrides=seed=1: must be a list, as ['seed=1']"),
        (
            lambda run: microgpt.train(["model.n_head=1,2"]),
            "model.n_head=1,2: call microgpt.sweep for a sweep of several values",
        ),
        (
            lambda run: microgpt.train(["hydra.sweeper.arms=[]"]),
            "hydra.sweeper.arms=[]: is for a sweep; call microgpt.sweep",
        ),
        (lambda run: microgpt.train(["-m"]), "-m: must be an override, as key=value"),
        (lambda run: run.logits("a" * 10), "text='aaaaaaaaaa': must be shorter than block_size=10"),
        (lambda run: run.logits("Q"), "'Q': not in the vocabulary"),
        (lambda run: microgpt.train([], config_dir="no"), "--config-dir no: no such folder"),
        (lambda run: microgpt.load("nowhere"), "nowhere: no such run or folder"),
        (lambda run: microgpt.load("heads/best"), "no store there"),
    ],
)
def test_what_no_command_is_asked(
    call: Callable[[microgpt.Run], object], said: str, run: microgpt.Run
) -> None:
    with pytest.raises(microgpt.Error) as error:
        call(run)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_that_fails_is_returned(run: microgpt.Run, capfd: pytest.CaptureFixture[str]) -> None:
    failed = microgpt.train([*QUICK, "optimizer=sgd", "optimizer.lr=1e300"])
    assert failed.status == "failed"
    assert failed.facts["reason"] in capfd.readouterr().err


def test_an_interrupt_stops_a_run_which_can_go_on(
    run: microgpt.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*QUICK, *SLOWLY, "trainer.num_steps=8"]
    with monkeypatch.context() as patch:
        patch.setattr("microgpt.one_run.watcher", lambda *_: Signals(Stepped, 5, 1))
        with pytest.raises(KeyboardInterrupt):
            microgpt.train(words)
    (stopped,) = microgpt.runs().query("status == 'stopped'").index
    assert microgpt.load(stopped).facts["stopped_at"] == "step 5 of 8"
    with pytest.raises(microgpt.Error, match="must be a class of microgpt"):
        microgpt.train([f"resume={stopped}"])
    again = microgpt.train([f"resume={stopped}", "progress=false"], trust=["tests"])
    assert (again.id, again.status) == (stopped, "finished")
    assert len(again.sample(1)) == 1


def test_within_another_hydra_application(run: microgpt.Run) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        assert microgpt.train(QUICK).status == "finished"
        assert compose("train").seed == 42


@pytest.mark.slow
def test_a_sweep_in_the_store(
    told: tuple[Path, str, Made], bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `microgpt report` wrote of it."""
    folder, _, made = told
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(bench))
    table = {row["arm"]: row for row in read_lock(folder / LOCK)["table"]}
    arms = microgpt.arms(made.id)
    assert arms["n_head"].to_list() == [1, 2, 4, 8, 16]
    for arm, row in table.items():
        mine = arms.loc[arm]
        loss = row["loss"]
        assert [mine.loss, mine.loss_low, mine.loss_high] == [
            loss["mean"],
            loss["low"],
            loss["high"],
        ]
        if arm == "n_head=4":
            assert (mine.word, mine.isna().difference) == ("baseline", True)
        else:
            assert mine.difference_low == row["difference"]["low"] < row["difference"]["high"]
    runs, curves = microgpt.runs(made.id), microgpt.curves(made.id)
    assert runs.groupby("arm").seed.apply(list).to_dict() == {arm: [0, 1, 2, 3, 4] for arm in table}
    assert len(curves) == 25 * 10
    last = curves[curves.step == 200].set_index("run")["val/loss"]
    assert last.to_dict() == runs["val/loss"].to_dict()
    assert runs["val/loss"].groupby(runs.arm).mean().to_dict() == pytest.approx(
        arms.loss.to_dict(), abs=1e-6
    )


def test_the_best_of_a_sweep(
    told: tuple[Path, str, Made], bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, made = told
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(bench))
    with pytest.raises(microgpt.Error, match="no sweep of it"):
        microgpt.load("nothing/best")
    lowest = microgpt.runs(made.id)["val/loss"].idxmin()
    assert microgpt.load(f"{made.id}/best").config["model"]["n_head"] == int(
        microgpt.runs(made.id).loc[lowest, "n_head"]
    )


def test_the_functions_are_not_hidden_by_the_modules_of_their_names() -> None:
    import microgpt.sweep
    import microgpt.train
    from microgpt.sweep import PLUGINS
    from microgpt.train import create

    assert callable(microgpt.train)
    assert callable(microgpt.sweep)
    assert callable(create)
    assert PLUGINS
    assert {"train", "load", "Error"} <= set(dir(microgpt))
    assert not hasattr(microgpt, "nothing")


def test_help_imports_nothing_of_it() -> None:
    program = (
        "import sys; from microgpt import cli; sys.argv = ['microgpt', '--help']; cli.main(); "
    )
    program += "print({'pandas', 'hydra', 'mlflow', 'microgpt.api'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.slow
def test_a_run_from_the_store_alone(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.running import sync_here

    folder = untracked(outputs, "tracking=mlflow")
    sync_here(outputs)
    here = microgpt.load(folder.path).sample(2, seed=1)
    (outputs / "runs").rename(outputs / "gone")
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    run = microgpt.load("here")
    place = run.folder
    assert run.sample(2, seed=1) == here
    del run
    assert not place.exists()
