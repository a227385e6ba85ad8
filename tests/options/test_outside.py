"""Options from outside the package, one class and one file each, do all that ours do."""

import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.record import FINISHED
from tests.command import Within, command
from tests.options.checks import CHECKS
from tests.options.choices import CONF, combinations, of_group, options
from tests.options.subject import subject

CODE = {
    "mynorm.py": '''
"""A norm with a gain."""

from microgpt.core.check import positive
from microgpt.core.engine.base import Engine, Matrix, Weights
from microgpt.core.layers.base import Dims, Norm, Shapes
from microgpt.core.weight import Weight


class MeanNorm(Norm):
    """gain * (x - mean) / (mean(|x - mean|) + eps)."""

    def __init__(self, *, eps: float) -> None:
        self.eps = positive("eps", eps)

    def shapes(self, dims: Dims, site: str) -> Shapes:
        return {f"{site}.gain": Weight(1, dims.n_embd, "gain")}

    def __call__(self, ops: Engine, w: Weights, x: Matrix, site: str) -> Matrix:
        share = 1 / ops.shape(x)[1]
        x = x - ops.row_sum(x) * share
        return x / (ops.row_sum(x * ops.sign(x)) * share + self.eps) * w[f"{site}.gain"]
''',
    "myoptimizer.py": '''
"""An optimizer with a slot."""

from microgpt.core.check import fraction
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.optim.base import Optimizer, Slots


class RMSProp(Optimizer):
    """v = decay v + (1 - decay) g^2;  p -= lr g / (sqrt(v) + 1e-6)."""

    slots = ("v",)

    def __init__(self, *, lr: float, decay: float) -> None:
        super().__init__(lr=lr)
        self.decay = fraction("decay", decay)

    def update(self, ops: Engine, p: Matrix, g: Matrix, slots: Slots, lr: float) -> Matrix:
        slots["v"] = v = self.decay * slots["v"] + (1 - self.decay) * g**2
        return p - lr * g / (v**0.5 + 1e-6)
''',
    "mysource.py": '''
"""A source without a file."""

from random import Random

from microgpt.core.check import integer
from microgpt.core.source import Source


class Palindromes(Source):
    """Words that read the same from behind."""

    def __init__(
        self, *, count: int, val_fraction: float, test_fraction: float, split: str, split_seed: int
    ) -> None:
        super().__init__(
            val_fraction=val_fraction, test_fraction=test_fraction, split=split, split_seed=split_seed
        )
        self.count = integer("count", count, 1)

    def documents(self) -> list[str]:
        rng = Random(0)
        halves = ["".join(rng.choices("abcd", k=rng.randint(1, 3))) for _ in range(self.count)]
        return [half + half[::-1] for half in halves]
''',
}
FILES = {
    "model/norm/mean.yaml": "_target_: mynorm.MeanNorm\neps: 1.0e-3\n",
    "optimizer/rmsprop.yaml": "_target_: myoptimizer.RMSProp\nlr: 0.01\ndecay: 0.9\n",
    "data/palindromes.yaml": "_target_: mysource.Palindromes\ncount: 30\nval_fraction: 0.2\n"
    "test_fraction: 0.2\nsplit: hash\nsplit_seed: 0\n",
}
CHOICE = ("model/norm=mean", "optimizer=rmsprop", "data=palindromes")
SIZES = ["model.n_embd=8", "model.n_head=2", "model.block_size=8", "sampling.num_samples=2"]
STEPS = ["trainer.num_steps=6", "trainer.checkpoint_every=3", "trainer.log_every=1"]


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of configurations, whose classes are in a folder where Python looks."""
    place = tmp_path_factory.mktemp("outside")
    for name, text in CODE.items():
        (place / name).write_text(text.lstrip())
    for name, text in FILES.items():
        file = place / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    sys.path.insert(0, str(place))
    invalidate_caches()
    yield place / "conf"
    sys.path.remove(str(place))
    for name in CODE:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture
def within(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
    return Within(monkeypatch, capfd)


def the_new(outputs: Path, known: set[Path]) -> RunFolder:
    (new,) = [run for run in all_runs(outputs) if run.path not in known]
    return new


@pytest.mark.parametrize("engine", of_group("engine", CONF))
def test_they_train_and_can_be_sampled_verified_and_forked(
    engine: str, outside: Path, within: Within, outputs: Path
) -> None:
    words = [*CHOICE, f"engine={engine}", *SIZES, *STEPS, "progress=false"]
    done = within("train", "--config-dir", str(outside), *words)
    assert done.code == 0, done.err
    run = the_new(outputs, set())
    assert run.info["status"] == FINISHED
    assert run.info["data"]["name"] == "palindromes"
    assert {"mynorm", "myoptimizer", "mysource"} <= run.info["source_files"].keys()
    assert "test/loss" in run.metrics()[-1]

    trust = ("--config-dir", str(outside))
    done = within("sample", run.path.name, "--num-samples", "3", "--seed", "1", *trust)
    assert (done.code, len(done.out.splitlines())) == (0, 3), done.err
    done = within("verify", run.path.name, *trust)
    assert done.code == 0, done.out + done.err
    done = within("fork", run.path.name, "--at-step", "2", "optimizer.decay=0.5", *trust)
    assert done.code == 0, done.err
    fork = the_new(outputs, {run.path})
    assert fork.info["status"] == FINISHED
    assert [row["train/loss"] for row in fork.metrics()][:3] == [
        row["train/loss"] for row in run.metrics()
    ][:3]
    assert fork.info["parameters_sha256"] != run.info["parameters_sha256"]


def test_in_a_process_of_its_own_they_are_found_by_pythonpath(
    outside: Path, tmp_path: Path
) -> None:
    words = ["train", "--config-dir", str(outside), *CHOICE, *SIZES, *STEPS]
    done = command([*words, "tracking=none"], tmp_path, PYTHONPATH=str(outside.parent))
    assert done.code == 0, done.err
    done = command(
        [*words, "optimizer.decay=2", "tracking=none"], tmp_path, PYTHONPATH=str(outside.parent)
    )
    assert done.code == 2
    assert done.err == "microgpt: optimizer.decay=2: must be a number >= 0 and < 1\n"


def test_they_are_found_by_listing(outside: Path) -> None:
    assert {f"{group}={option}" for group, option in options(outside)} == set(CHOICE)
    words = {word for choice in combinations(40, outside) for word in choice}
    assert set(CHOICE) <= words


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_they_are_held_to_what_ours_are(check: object, outside: Path) -> None:
    check(subject(Path("no file"), CHOICE, folders=(outside,)))  # type: ignore[operator]
