"""Damaged files of a run, and every command: one line that names the file, and the other runs go on."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from microgpt.run.folder import RunFolder
from tests.command import Ended, Within
from tests.running import sync_here, train_here

NAME = "damaged"
COMMANDS = {
    "runs": ["runs"],
    "sync": ["sync"],
    "sync RUN": ["sync", NAME],
    "compare": ["compare", NAME, "other"],
    "verify": ["verify", NAME],
    "sample": ["sample", NAME, "-n", "1"],
    "resume": [
        "train",
        f"resume={NAME}",
        "trainer.stop_after=13",
        "progress=false",
        "tracking=none",
    ],
    "fork": ["fork", NAME, "--at-step", "7", "tracking=none", "progress=false"],
}
# The files of a run's folder that a command needs.
NEEDS = {
    "runs": {"run.json", "metrics.jsonl", ".lock"},
    "sync": {"run.json", "config.yaml", "metrics.jsonl", ".lock"},
    "sync RUN": {"run.json", "config.yaml", "metrics.jsonl", ".lock"},
    "compare": set(),  # these two need the store alone
    "verify": set(),
    "sample": {"run.json", "config.yaml", "documents.txt"},
    "resume": {"run.json", "config.yaml", "documents.txt", "metrics.jsonl", ".lock"},
    "fork": {"run.json", "config.yaml", "documents.txt", "metrics.jsonl"},
}
CODES = {
    "runs": 0,
    "sync": 1,
    "sync RUN": 1,
}  # where a file that is needed is damaged; of others, 2
TRACKED = {"_target_": "microgpt.tracking.MLflow", "uri": None, "experiment": "microgpt"}
Damage = Callable[[Path], object]


def replaced(old: str, new: str) -> Damage:
    """Replaces a text in a file."""

    def damage(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return damage


def cut(file: Path) -> None:
    """Keeps the first half of a file."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def folder(file: Path) -> None:
    """Puts a folder in the file's place."""
    file.unlink(missing_ok=True)
    file.mkdir()


def pipe(file: Path) -> None:
    """Puts a pipe in the file's place, which nobody writes into."""
    file.unlink()
    os.mkfifo(file)


def content(text: str | bytes) -> Damage:
    """Gives a file this content."""
    return lambda file: file.write_bytes(text if isinstance(text, bytes) else text.encode())


BINARY = content(b"\xff\xfe\x00\x80")
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 10)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi")
)
KINDS: dict[str, tuple[str, Damage]] = {
    "run.json cut": ("run.json", cut),
    "run.json empty": ("run.json", content("")),
    "run.json binary": ("run.json", BINARY),
    "run.json a list": ("run.json", content("[]")),
    "run.json a part": ("run.json", content('{"status": "failed", "ended": 1.5}')),
    "run.json deep": ("run.json", content('{"a": ' + "[" * 100_000)),
    "run.json a long number": ("run.json", content('{"begun": ' + "1" * 5000 + "}")),
    "run.json a folder": ("run.json", folder),
    "run.json a pipe": ("run.json", pipe),
    "name half a character": ("run.json", replaced('"name": "', '"name": "\\ud800')),
    "begun a text": ("run.json", replaced('"begun": ', '"begun": "x", "old": ')),
    "begun infinite": ("run.json", replaced('"begun": ', '"begun": Infinity, "old": ')),
    "status of nobody": ("run.json", replaced('"status": "stopped"', '"status": "asleep"')),
    "num_steps null": ("run.json", replaced('"num_steps": 20', '"num_steps": null')),
    "data a list": ("run.json", replaced('"data": {', '"data": [1], "old": {')),
    "no digest": ("run.json", replaced('"digest"', '"digits"')),
    "stopped somewhere": ("run.json", replaced('"stopped_at": "step ', '"stopped_at": "ste')),
    "source a number": ("run.json", replaced('"source": "', '"source": 5, "old": "')),
    "config cut": ("config.yaml", content("seed: [1")),
    "config empty": ("config.yaml", content("")),
    "config binary": ("config.yaml", BINARY),
    "config a number": ("config.yaml", content("5")),
    "config without a section": ("config.yaml", replaced("tracking:", "trucking:")),
    "config with a number for a section": ("config.yaml", replaced("paths:", "paths: 5\nold:")),
    "config with Python": (
        "config.yaml",
        replaced("seed: 42", "seed: !!python/object/apply:os._exit [7]"),
    ),
    "config with a wrong scalar": ("config.yaml", replaced("seed: 42", "seed: !!timestamp x")),
    "config with half a character": (
        "config.yaml",
        replaced("seed: 42", 'seed: 42\n"\\ud800": 1'),
    ),
    "config a bomb": ("config.yaml", content(BOMB)),
    "config a bomb of keys": ("config.yaml", content(MERGED)),
    "config a folder": ("config.yaml", folder),
    "config gone": ("config.yaml", Path.unlink),
    "metrics of no JSON": ("metrics.jsonl", replaced("{", "(")),
    "metrics of no object": ("metrics.jsonl", replaced('{"step"', '[5]\n{"step"')),
    "metrics of no numbers": ("metrics.jsonl", replaced('"lr": ', '"lr": null, "old": ')),
    "metrics without a step": ("metrics.jsonl", replaced('"step"', '"stop"')),
    "metrics binary": ("metrics.jsonl", content(b"\xff\n")),
    "metrics a folder": ("metrics.jsonl", folder),
    "metrics gone": ("metrics.jsonl", Path.unlink),
    "documents binary": ("documents.txt", BINARY),
    "documents a folder": ("documents.txt", folder),
    "lock a folder": (".lock", folder),
    "id binary": (".mlflow_run_id", BINARY),
    "id empty": (".mlflow_run_id", content("")),
}


@pytest.fixture(scope="module")
def two(store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with two tracked runs; of the first a copy is kept."""
    outputs = tmp_path_factory.mktemp("two")
    shutil.copy(store_template, outputs / "mlflow.db")
    words = ["trainer.num_steps=20", "trainer.checkpoint_every=5", "engine=native"]
    for name in (NAME, "other"):
        stop = ["trainer.stop_after=12", "tracking=none"]
        _, run = train_here(outputs, *words, *stop, name=name)
        run.set_config(run.config | {"tracking": TRACKED})
    sync_here(outputs)  # in this process, which is quicker
    shutil.copytree(outputs / "runs" / NAME, outputs / "kept")
    return outputs


@pytest.fixture
def run(two: Path) -> Iterator[RunFolder]:
    """The run that a test may damage."""
    yield RunFolder(two / "runs" / NAME)
    for folder in (two / "runs").iterdir():
        if folder.name != "other":  # a fork, perhaps
            shutil.rmtree(folder)
    shutil.copytree(two / "kept", two / "runs" / NAME)


@pytest.fixture
def microgpt(
    two: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Within:
    """A command with these outputs."""
    monkeypatch.setenv("MICROGPT_OUTPUTS", str(two))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Within(monkeypatch, capfd)


def check(name: str, file: Path, ended: Ended) -> None:
    """A command's end: in a line for the file if it was needed."""
    needed = file.name in NEEDS[name]
    assert ended.code == (CODES.get(name, 2) if needed else 0), ended
    lines = ended.err.splitlines()
    assert all(line.startswith("microgpt: ") for line in lines), ended
    assert [line for line in lines if str(file) in line][:1] == lines[:1], ended
    if needed:  # `sync` says at its end how many are not sent
        assert len(lines) == (2 if name.startswith("sync") else 1), ended
    if name == "runs":
        assert "\n other " in ended.out
    if name == "sync":
        assert "other  stopped  MLflow " in ended.out


# Of the kinds of damage to a file, a command that does not need it meets the first alone.
FIRST = {file: kind for kind, (file, _) in reversed(KINDS.items())}
PAIRS = [
    (kind, name)
    for kind, (file, _) in KINDS.items()
    for name in COMMANDS
    if file in NEEDS[name] or kind == FIRST[file]
]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_a_damaged_file(kind: str, name: str, run: RunFolder, microgpt: Within) -> None:
    file, damage = KINDS[kind]
    damage(run.path / file)
    check(name, run.path / file, microgpt(*COMMANDS[name]))
