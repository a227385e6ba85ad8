"""What is known of the machine and of the checkout that a run is trained in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from microgpt.run.identity import git_state, libm_digest
from tests.golden.check import LIBM


def test_the_golden_figures_are_compared_to_the_last_bit_here() -> None:
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or " fma " not in cpu.read_text() or sys.platform != "linux":
        pytest.skip("no x86-64 with FMA: golden figures are compared to 1e-9")
    assert libm_digest() == LIBM


def test_the_checkout_is_looked_at_and_not_touched(tmp_path: Path) -> None:
    """A run that is killed meanwhile must leave no lock on the index."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=A", "-c", "user.email=a@b.invalid"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    file, index = tmp_path / "a.py", tmp_path / ".git/index"
    git("init")
    file.write_text("1\n")
    os.utime(file, (1, 1))
    git("add", ".")
    git("commit", "-m", "first")
    os.utime(file, (2, 2))  # git would like to note that it is the same nonetheless
    before = index.read_bytes()
    (tmp_path / "my notes").write_text("of the user's own")
    state = git_state(tmp_path)
    assert index.read_bytes() == before
    assert (len(state["commit"]), state["dirty"], state["diff"]) == (40, "false", "")
    file.write_text("2\n")
    state = git_state(tmp_path)
    assert (state["dirty"], "+2\n" in state["diff"]) == ("true", True)
    assert git_state(tmp_path / ".git") == {}
