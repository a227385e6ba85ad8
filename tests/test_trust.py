"""Of what a folder, a store or a lock names, only trusted classes are imported and called."""

import json
import os
import pickle
import shutil
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from importlib import invalidate_caches
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hydra import compose, initialize_config_dir

from microgpt.ablation.evidence.lock import LOCK, text_of
from microgpt.ablation.report.report import report
from microgpt.app import run_app
from microgpt.build import resolve
from microgpt.run.folder import RunFolder, all_runs
from microgpt.run.sweep import all_sweeps
from microgpt.tracking import sync
from microgpt.trust import OURS_ALONE, replayed
from tests.command import OFFLINE, Ended, Within
from tests.options.choices import CONF, options
from tests.running import TINY

SWEEP = [*TINY, "engine=native", "trainer.num_steps=4", "trainer.checkpoint_every=2", "seed=1,2"]
MARK = "mark-of-trust"  # a file that appears when code from a record is executed
MODULES = {
    "marking_of_trust.py": "open({mark!r}, 'w').close()\nclass Marks: pass\n",
    "mine_of_trust.py": """
from microgpt.core.layers.base import Norm
from microgpt.core.layers.norm.rmsnorm import RMSNorm

class Mine(RMSNorm):
    '''A norm.'''

class Other:
    '''No norm, though it could be called as one.'''

    def __init__(self, *, eps: float) -> None:
        pass

    shapes, __call__ = Norm.shapes, Norm.__call__

def make(*, eps: float) -> Norm:
    '''A factory.'''
    return Mine(eps=eps)
""",
}


class Touch:
    """Its pickle makes the file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def attacks(mark: Path) -> dict[str, tuple[str, Any, str]]:
    """Name -> a key of a configuration, its value, and the key that the refusal names."""
    touch = f"touch {mark}"
    loads = {
        "_target_": "distributed.protocol.pickle.loads",
        "x": {"_target_": "base64.b64decode", "s": b64encode(pickle.dumps(Touch(mark))).decode()},
    }
    system = {"_target_": "os.system", "command": touch}
    relu = "microgpt.core.layers.activation.relu.ReLU"
    return {
        "system": ("optimizer", system, "optimizer._target_='os.system'"),
        "eval": (
            "loss",
            {"_target_": "builtins.eval", "_args_": [f"open({str(mark)!r}, 'w')"]},
            "loss._target_='builtins.eval'",
        ),
        "pickle": (
            "schedule.warmup_steps",
            loads,
            "schedule.warmup_steps._target_='distributed.protocol.pickle.loads'",
        ),
        "arguments": ("streams._args_", [loads], "streams._args_"),
        "sampling": ("sampling.top_k", loads, "sampling.top_k._target_='distributed."),
        "list": ("optimizer.lr", [1, [system]], "optimizer.lr[1][0]._target_='os.system'"),
        "partial": ("data._partial_", True, "data._partial_"),
        "look-up": (
            "engine",
            {"_target_": "hydra.utils.get_object", "path": "marking_of_trust.Marks"},
            "engine._target_='hydra.utils.get_object'",
        ),
        "import": (
            "data._target_",
            "marking_of_trust.Marks",
            "data._target_='marking_of_trust.Marks'",
        ),
        "tracking": ("tracking", system, "tracking._target_='os.system'"),
        "path": (
            "streams._target_",
            "microgpt.cli.os.system",
            "streams._target_='microgpt.cli.os.system': must be a subclass of Streams",
        ),
        "group": (
            "data",
            {"_target_": relu},
            f"data._target_='{relu}': must be a subclass of Source",
        ),
        "place": ("schedule.warmup_steps", {"_target_": relu}, "schedule.warmup_steps._target_="),
        "function": (
            "streams._target_",
            "microgpt.run.source.modules",
            "streams._target_='microgpt.run.source.modules': must be a subclass of Streams",
        ),
        "resolver": ("description", "${oc.env:HOME}", "description='${oc.env:HOME}'"),
    }


QUICK = ("pickle", "import", "group", "resolver")
ATTACKS = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.soak) for name in attacks(Path())
]


class Kept(NamedTuple):
    """A sweep of two runs, tracked and reported."""

    place: Path
    outputs: Path
    run: RunFolder
    artifact: Path  # the run's config.yaml in the store
    lock: Path
    sweep: str


@pytest.fixture(scope="module")
def kept(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    place = tmp_path_factory.mktemp("kept")
    outputs = place / "outputs"
    outputs.mkdir()
    shutil.copy(store_template, outputs / "mlflow.db")
    for name, text in MODULES.items():
        (place / name).write_text(text.replace("{mark!r}", repr(str(place / MARK))))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MICROGPT_OUTPUTS", str(outputs))
        patch.syspath_prepend(place)
        invalidate_caches()
        assert run_app(["-m", *SWEEP, "hydra/launcher=basic", *OFFLINE]) == 0
        (sweep,) = all_sweeps(outputs)
        list(sync([sweep, *all_runs(outputs)], None, outputs))
        folder = report(sweep.path.name, None, outputs, place / "experiments")
        run = all_runs(outputs)[0]
        artifacts = outputs / "artifacts/microgpt" / run.mlflow_run_id / "artifacts"
        config = artifacts / "config.yaml"
        yield Kept(place, outputs, run, config, folder / LOCK, sweep.path.name)
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture
def within(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    monkeypatch.chdir(kept.place)
    return Within(monkeypatch, capfd)


def with_key(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Sets a key of a configuration."""
    *parents, last = key.split(".")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


def edit_yaml(file: Path, key: str, value: Any) -> None:
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(with_key(config, key, value), sort_keys=False))


def edit_lock(file: Path, key: str, value: Any) -> None:
    """Changes the configuration of all runs, and the digest with it, as one who means to deceive."""
    lock = json.loads(file.read_text())
    del lock["digest"]
    with_key(lock["config"], key, value)
    file.write_text(text_of(lock))


Edit = Callable[[Path, str, Any], None]
# Command -> the file that is edited, how, and the words of the command line.
COMMANDS: dict[str, tuple[str, Edit, str]] = {
    "sample": ("folder", edit_yaml, "sample RUN"),
    "resume": ("folder", edit_yaml, "train resume=RUN"),
    "fork": ("folder", edit_yaml, "fork RUN --at-step 2"),
    "fork of the store": ("artifact", edit_yaml, "fork MLFLOW --at-step 2 --uri STORE"),
    "verify RUN": ("artifact", edit_yaml, "verify RUN"),
    "report": ("artifact", edit_yaml, "report SWEEP"),
    "verify EXPERIMENT": ("lock", edit_lock, "verify LOCK"),
}


@pytest.fixture
def tampered(
    kept: Kept, within: Within, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Ended]]:
    """Runs a command of COMMANDS on a record with another value for a key."""
    files = {"folder": kept.run.path / "config.yaml", "artifact": kept.artifact, "lock": kept.lock}
    contents = {file: file.read_text() for file in files.values()}
    named = {"RUN": kept.run.path.name, "MLFLOW": kept.run.mlflow_run_id, "SWEEP": kept.sweep}
    named |= {"STORE": f"sqlite:///{kept.outputs}/mlflow.db", "LOCK": str(kept.lock.parent)}

    def call(command: str, key: str, value: Any, *more: str) -> Ended:
        where, edit, line = COMMANDS[command]
        edit(files[where], key, value)
        for name, word in named.items():
            line = line.replace(name, word)
        outputs = tmp_path / "elsewhere" if "STORE" in COMMANDS[command][2] else kept.outputs
        monkeypatch.setenv("MICROGPT_OUTPUTS", str(outputs))
        return within(*line.split(), *more)

    yield call
    for file, content in contents.items():
        file.write_text(content)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_of_an_edited_record_is_executed(
    attack: str, command: str, kept: Kept, tampered: Callable[..., Ended]
) -> None:
    key, value, named = attacks(kept.place / MARK)[attack]
    (kept.place / MARK).unlink(missing_ok=True)
    before = sorted(kept.place.rglob("*"))
    ended = tampered(command, key, value)
    assert not (kept.place / MARK).exists()
    assert (ended.code, len(ended.err.splitlines())) == (2, 1), ended
    assert ended.err.startswith(f"microgpt: {named}"), ended.err
    assert ": must " in ended.err
    assert "marking_of_trust" not in sys.modules
    assert sorted(kept.place.rglob("*")) == before


def test_what_replays_nothing_reads_an_edited_record(
    kept: Kept, within: Within, tampered: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, value, _ = attacks(kept.place / MARK)["tracking"]
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(kept.outputs))
    edit_yaml(kept.run.path / "config.yaml", key, value)
    edit_yaml(kept.artifact, key, value)
    other = all_runs(kept.outputs)[1].path.name
    for words in (["runs"], ["compare", kept.run.path.name, other], ["sync"]):
        ended = within(*words)
        assert (ended.code, ended.err) == (0, ""), ended
    assert not (kept.place / MARK).exists()


def test_code_of_others_is_trusted_by_name(kept: Kept, tampered: Callable[..., Ended]) -> None:
    def sample(*more: str) -> Ended:
        return tampered("sample", "model.norm._target_", target, *more)

    conf, target = kept.place / "conf", "mine_of_trust.Mine"
    (conf / "model/norm").mkdir(parents=True)
    allowed = "must be a class of microgpt, or one trusted by --trust PACKAGE or --config-dir DIR"
    refusal = f"microgpt: model.norm._target_={target!r}: {allowed}\n"
    assert sample().err == refusal
    assert sample("--trust", "mine_of", "--trust", "mine_of_trust.Min").err == refusal
    (conf / "model/norm/other.yaml").write_text("_target_: mine_of_trust.Mine2\n")
    assert sample("--config-dir", str(conf)).err == refusal
    (conf / "model/norm/mine.yaml").write_text(f"_target_: {target}\neps: 1.0e-5\n")
    assert "mine_of_trust" not in sys.modules
    for more in (["--trust", "mine_of_trust"], ["--config-dir", str(conf)]):
        ended = sample(*more)
        assert (ended.code, len(ended.out.splitlines()), ended.err) == (0, 3, "")
    for target in ("mine_of_trust.Other", "mine_of_trust.make", "mine_of_trust.Norm"):
        ended = sample("--trust", "mine_of_trust")
        line = f"microgpt: model.norm._target_={target!r}: must be a subclass of Norm\n"
        assert (ended.code, ended.err) == (2, line)
    target = "mine_of_trust.Gone"
    ended = sample("--trust", "mine_of_trust")
    assert (ended.code, "Gone'" in ended.err, len(ended.err.splitlines())) == (2, True, 1)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--trust", "a b"], "--trust a b: must be the name of a package"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["--config-dir", "broken"], "broken/x.yaml: cannot be read (while parsing"),
    ],
)
def test_what_cannot_be_trusted(
    words: list[str], problem: str, kept: Kept, within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept.place / "broken").mkdir(exist_ok=True)
    (kept.place / "broken/x.yaml").write_text("_target_: [")
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(kept.outputs))
    ended = within("sample", kept.run.path.name, *words)
    assert (ended.code, len(ended.err.splitlines())) == (2, 1)
    assert ended.err.startswith(f"microgpt: {problem}")


@pytest.mark.parametrize("value", [{"x": 1}, [1], "1", True])
@pytest.mark.parametrize(
    "key", ["schedule.warmup_steps", "trainer.num_steps", "sampling.top_k", "model.n_embd", "seed"]
)
def test_a_number_is_a_number(key: str, value: Any, tampered: Callable[..., Ended]) -> None:
    ended = tampered("sample", key, value)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert ended.err.startswith(f"microgpt: {key}="), ended.err


def test_every_option_of_ours_can_be_replayed() -> None:
    groups: dict[str, list[str]] = {}
    for group, option in options(CONF):
        groups.setdefault(group, []).append(option)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for i in range(max(map(len, groups.values()))):
            of_model = groups["model"][i % len(groups["model"])]
            words = [f"{group}={names[i % len(names)]}" for group, names in groups.items()]
            words = [
                word for word in words if of_model != "bigram" or not word.startswith("model/")
            ]
            config = resolve(compose("train", [*words, "++data.path=x"]))
            assert replayed(config, OURS_ALONE) == config
