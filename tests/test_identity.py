"""Which code answered: the digest of what a run's classes reach, and of nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

import microgpt
from microgpt.run.identity import git_state, libm_digest, source, source_files
from tests.golden.check import LIBM

FILES = {
    "__init__.py": "",
    "used.py": "from .below import deep\nfrom reached import other\nimport math\n",
    "other.py": "x = 1\n",
    "below/__init__.py": "",
    "below/deep.py": "y = 1\n",
    "unused.py": "z = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `reached`, of which `reached.used` uses a part."""
    for name, text in FILES.items():
        file = tmp_path / "reached" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield tmp_path / "reached"
    for name in [name for name in sys.modules if name.partition(".")[0] == "reached"]:
        del sys.modules[name]


def test_the_modules_that_are_reached(package: Path) -> None:
    names = {"reached", "reached.used", "reached.other", "reached.below", "reached.below.deep"}
    assert set(source_files(["reached.used"])) == names


@pytest.mark.parametrize("name", ["used.py", "other.py", "below/deep.py", "__init__.py"])
def test_an_edit_to_what_is_used_changes_the_source(package: Path, name: str) -> None:
    before = source(["reached.used"])
    with (package / name).open("a") as file:
        file.write("# edited\n")
    assert source(["reached.used"]) != before


def test_an_edit_to_what_is_not_used_changes_nothing(package: Path) -> None:
    before = source(["reached.used"])
    (package / "unused.py").write_text("z = 2\n")
    (package / "new.py").write_text("w = 1\n")
    assert source(["reached.used"]) == before


def test_a_run_of_ours_reaches_the_core_and_not_its_other_variants() -> None:
    files = source_files(["microgpt.core.trainer", "microgpt.core.optim.adam"])
    assert {"microgpt.core.engine.base", "microgpt.core.exact", "microgpt.core.sampling"} <= set(
        files
    )
    assert not {"microgpt.core.optim.sgd", "microgpt.core.engine.scalar"} & set(files)


def test_the_golden_figures_are_compared_to_the_last_bit_here() -> None:
    cpu = Path("/proc/cpuinfo")
    if not cpu.exists() or " fma " not in cpu.read_text() or sys.platform != "linux":
        pytest.skip("no x86-64 with FMA: golden figures are compared to 1e-9")
    assert libm_digest() == LIBM


def source_in(folder: Path) -> str:
    """The source of a run by the copy of our package in `folder`."""
    program = "from microgpt.run.identity import source; "
    program += "print(source(['microgpt.core.trainer', 'microgpt.core.optim.adam']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_an_edit_to_our_own_package(tmp_path: Path) -> None:
    package = tmp_path / "microgpt"
    shutil.copytree(Path(microgpt.__file__).parent, package)
    before = source_in(tmp_path)
    (package / "core/optim/new.py").write_text("class New: ...\n")
    with (package / "core/optim/sgd.py").open("a") as file:
        file.write("# edited\n")
    assert source_in(tmp_path) == before
    with (package / "core/engine/base.py").open("a") as file:
        file.write("# edited\n")
    assert source_in(tmp_path) != before


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
    state = git_state(tmp_path)
    assert index.read_bytes() == before
    assert (len(state["commit"]), state["dirty"], state["diff"]) == (40, "false", "")
    file.write_text("2\n")
    state = git_state(tmp_path)
    assert (state["dirty"], "+2\n" in state["diff"]) == ("true", True)
    assert git_state(tmp_path / ".git") == {}
