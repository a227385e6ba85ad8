"""The command line for tests: as a process of its own, or within this one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from microgpt import cli

PROGRAM = str(Path(sys.executable).with_name("microgpt"))
TINY = (
    *("model.n_embd=4", "model.n_head=2", "model.block_size=10"),
    *("trainer.num_steps=2", "trainer.eval_documents=2", "sampling.num_samples=2"),
)
OFFLINE = ("tracking=none", "progress=false")
NAMES = ["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "hans", "ida", "jo"]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """This process's environment, without what would change where runs are kept and tracked."""
    ours = ("MICROGPT_", "MLFLOW_", "HYDRA_", "COLUMNS")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | changes


def command(words: Sequence[str], folder: Path, **changes: str) -> Ended:
    """`microgpt words` as a process in `folder`."""
    done = subprocess.run(
        [PROGRAM, *words],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


class Within:
    """`microgpt words` in this process, which is a second quicker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.patch, self.captured = monkeypatch, capfd

    def __call__(self, *words: str) -> Ended:
        self.patch.setattr(sys, "argv", ["microgpt", *words])
        self.patch.setattr(os, "environ", os.environ)
        self.captured.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        out, err = self.captured.readouterr()
        return Ended(code, out, err)


def files(folder: Path) -> list[str]:
    """Everything below a folder, by relative names."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.glob("**/*"))


def refused(ended: Ended, parts: list[str]) -> None:
    """One line of complaint, which holds all the parts; nothing on standard output."""
    assert (ended.code, ended.out) == (2, ""), ended
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith("microgpt: "), ended.err
    assert len(ended.err) < 400, ended.err
    missing = [part for part in parts if part not in ended.err]
    assert not missing, f"{missing} not in {ended.err}"


def spelt(wrong: str) -> list[str]:
    """The command line; the wrong words come last, where they win."""
    return ["train", *TINY, *OFFLINE, *wrong.split()]
