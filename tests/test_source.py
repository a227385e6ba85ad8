"""Which code answered: the digest of what a run's classes reach, and of nothing else."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from pathlib import Path

import pytest

import microgpt
from microgpt.run.source import WIRING, code, modules, source, source_files

FILES = {
    "reached/__init__.py": "",
    "reached/used.py": "from .below import deep\nfrom reached import other\nimport math\n",
    "reached/other.py": "x = 1\n",
    "reached/below/__init__.py": "",
    "reached/below/deep.py": "y = 1\n",
    "reached/unused.py": "z = 1\n",
    "mine/__init__.py": "from mine.parts.rate import Rate\n",
    "mine/act.py": "from microgpt.core.layers.activation.relu import ReLU\nimport tools.more\n"
    "class R(ReLU):\n    @classmethod\n    def make(cls): return cls()\n",
    "mine/parts/rate.py": "import numpy.linalg\nfrom yours import nothing, something\nclass Rate: ...\n",
    "mine/broken.py": "from .... import a\nfrom mine import act\nimport nowhere\nimport nowhere.more\n",
    "mine/newer.py": "x = = 1\n",
    "tools/__init__.py": "raise RuntimeError('only looked at, never run')\n",
    "tools/more.py": "a = 1\n",
    "yours/something.py": "b = 1\n",
    "single.py": "from mine.act import R as S\n",
    "site-packages/theirs/__init__.py": "import tools.more\nfrom .model import Net\n"
    "from . import Net\nfrom .... import Net\n",
    "site-packages/theirs/model.py": "from microgpt.core.models.gpt import GPT\n"
    "import theirs.more\nimport numpy\nclass Net(GPT): ...\n",
    "site-packages/theirs/more.py": "c = 1\n",
    "native/__init__.py": "",
    "native/engine.py": "",
    "native/engine.c": "int x;\n",
}
ACT = {"mine", "mine.parts.rate", "mine.act", "yours.something", "tools", "tools.more"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Packages of a user's, as if PYTHONPATH named their folder."""
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site-packages")
    invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    assert not {"mine", "tools", "reached"} & (set(sys.modules) - before), "a module was run"


def theirs(names: list[str]) -> set[str]:
    """What is reached beside our own files."""
    return {name for name in source_files(names) if not name.startswith("microgpt")}


def test_the_modules_that_are_reached(folder: Path) -> None:
    names = {"reached", "reached.used", "reached.other", "reached.below", "reached.below.deep"}
    assert set(source_files(["reached.used"])) == names


@pytest.mark.parametrize("name", ["used.py", "other.py", "below/deep.py", "__init__.py"])
def test_an_edit_to_what_is_used_changes_the_source(folder: Path, name: str) -> None:
    before = source(["reached.used"])
    with (folder / "reached" / name).open("a") as file:
        file.write("# prose\n")
    assert source(["reached.used"]) == before
    with (folder / "reached" / name).open("a") as file:
        file.write("edited = 1\n")
    assert source(["reached.used"]) != before


def test_an_edit_to_what_is_not_used_changes_nothing(folder: Path) -> None:
    before = source(["reached.used"])
    (folder / "reached/unused.py").write_text("z = 2\n")
    (folder / "reached/new.py").write_text("w = 1\n")
    assert source(["reached.used"]) == before


def test_a_class_of_the_users_reaches_its_base_and_their_other_packages(folder: Path) -> None:
    files = source_files(["mine.act"])
    assert "microgpt.core.layers.activation.relu" in files
    assert theirs(["mine.act"]) == ACT
    assert theirs(["single"]) == ACT | {"single"}


def test_what_cannot_be_imported_is_left_out(folder: Path) -> None:
    assert theirs(["mine.broken"]) == ACT | {"mine.broken"}
    assert theirs(["nowhere.at.all", "nowhere"]) == set()


def test_a_file_that_cannot_be_parsed_counts_as_it_is(folder: Path) -> None:
    before = source(["mine.newer"])
    (folder / "mine/newer.py").write_text("x = = 2\n")
    assert source(["mine.newer"]) != before


def test_installed_packages_are_left_out_and_their_versions_kept(folder: Path) -> None:
    (folder / "tools/more.py").write_text("import theirs.model\nfrom numpy.linalg import norm\n")
    assert theirs(["tools.more", "os.path", "math", "json"]) == {"tools", "tools.more"}
    assert set(code(["mine.act"])["packages"]) == {"numpy"}


@pytest.mark.parametrize("target", ["theirs.model.Net", "theirs.Net", "theirs.Net.made"])
def test_an_installed_class_that_is_named_reaches_what_it_imports_of_ours(
    folder: Path, target: str
) -> None:
    names = modules({"model": {"_target_": target}})
    assert {"theirs.model", "microgpt.core.models.gpt"} <= set(source_files(names))
    assert theirs(names) <= {"theirs", "theirs.model"}
    assert "numpy" in code(names)["packages"]
    before = source(names)
    with (folder / "site-packages/theirs/model.py").open("a") as file:
        file.write("edited = 1\n")
    assert source(names) != before


def test_the_version_of_an_installed_class_is_kept() -> None:
    found = code(modules({"engine": {"_target_": "numpy.linalg.norm"}}))
    assert "numpy" in found["packages"]
    assert "numpy.linalg" in found["source_files"]
    assert "numpy" not in found["source_files"]


def test_c_files_of_a_package_count(folder: Path) -> None:
    assert theirs(["native.engine"]) == {"native", "native.engine", "native/engine.c"}
    before = source(["native.engine"])
    (folder / "native/engine.c").write_text("/* prose */\n\nint x; // more\n")
    assert source(["native.engine"]) == before
    (folder / "native/engine.c").write_text("int y;\n")
    assert source(["native.engine"]) != before


def test_names_and_contents_are_told_apart(folder: Path) -> None:
    """The same code in other files is another source."""
    found = set()
    for text, name in [("a = 1\nb = 1\n", "one.py"), ("a = 1\nb = 1\n", "two.py")]:
        (folder / "tools" / name).write_text(text)
        invalidate_caches()
        found.add(source([f"tools.{name[:-3]}"]))
    assert len(found) == 2


def test_targets_are_found_wherever_they_stand(folder: Path) -> None:
    config = {
        "model": {"_target_": "mine.Rate", "layers": [{"deep": [{"_target_": "reached.used.A"}]}]},
        "streams": [{"_target_": "single.S"}],
        "activation": {"_target_": "mine.act.R.make", "_partial_": True},
        "optimizer": {"_target_": "nowhere.A"},
        "schedule": {"_target_": None},
        "tracking": {"_target_": "microgpt.tracking.MLflow"},
    }
    assert modules(config) == sorted(["mine", "mine.act", "reached.used", "single", WIRING])


def test_what_hydra_gets_by_its_path_counts(folder: Path) -> None:
    config = {"activation": {"_target_": "hydra.utils.get_method", "path": "mine.act.R.make"}}
    assert {"mine.act", WIRING} <= set(modules(config))


def test_the_version_of_a_package_that_the_configuration_names_is_kept() -> None:
    assert "numpy" in code(["numpy.linalg"])["packages"]


def test_what_makes_a_run_of_its_parts_counts(folder: Path) -> None:
    assert modules({}) == [WIRING]
    assert {WIRING, "microgpt.core.trainer"} <= set(source_files(modules({})))


def test_a_class_that_a_package_hands_on_counts_with_its_own_module() -> None:
    names = modules({"engine": {"_target_": "microgpt.accelerate.NumpyEngine"}})
    assert "microgpt.accelerate" in names
    assert "microgpt.accelerate.engine" in source_files(names)
    assert "numpy" in code(names)["packages"]


def test_a_run_of_ours_reaches_the_core_and_not_its_other_variants() -> None:
    files = source_files(["microgpt.core.trainer", "microgpt.core.optim.adam"])
    assert {"microgpt.core.engine.base", "microgpt.core.exact", "microgpt.core.sampling"} <= set(
        files
    )
    assert not {"microgpt.core.optim.sgd", "microgpt.core.engine.scalar"} & set(files)


@pytest.fixture(params=["checkout", "site-packages"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of our own package, in a checkout or as it is installed, and a class that inherits ours."""
    place: Path = tmp_path / request.param
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(microgpt.__file__).parent, place / "microgpt", ignore=skip)
    (tmp_path / "user").mkdir()
    (tmp_path / "user/mine.py").write_text(
        "from microgpt.core.optim.adam import Adam\nclass Mine(Adam): ...\n"
    )
    return place / "microgpt"


def source_by(package: Path, *names: str) -> str:
    """The source of modules by a copy of our package."""
    paths = [package.parent, package.parent.parent / "user"]
    done = subprocess.run(
        [sys.executable, "-c", f"from microgpt.run.source import source; print(source({names}))"],
        cwd=package.parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def edit(file: Path, pattern: str, instead: str) -> None:
    before = file.read_text(encoding="utf-8")
    after = re.sub(pattern, instead, before, count=1, flags=re.M)
    assert after != before
    file.write_text(after, encoding="utf-8")


def test_an_edit_to_the_c_of_ours(copy: Path) -> None:
    before = source_by(copy, "microgpt.native")
    edit(copy / "native/tape.c", r"\A", "/* More words. */\n\n")
    edit(copy / "native/tape.h", r"\Z", "// More words.\n")
    assert source_by(copy, "microgpt.native") == before
    edit(copy / "native/tape.c", r" \+ ", " - ")
    assert source_by(copy, "microgpt.native") != before


def test_a_version_of_the_users_counts(folder: Path) -> None:
    before = source(["mine"])
    with (folder / "mine/__init__.py").open("a") as file:
        file.write("__version__ = '2'\n")
    assert source(["mine"]) != before


RUN = ("microgpt.core.trainer", "microgpt.core.optim.adam")


@pytest.mark.parametrize("names", [RUN, ("mine",)], ids=["ours", "a class that inherits ours"])
def test_an_edit_to_our_own_package(copy: Path, names: tuple[str, ...]) -> None:
    before = source_by(copy, *names)
    (copy / "core/optim/new.py").write_text("class New: ...\n")
    edit(copy / "core/optim/sgd.py", r"\Z", "more = 1\n")
    edit(copy / "__init__.py", r'^__version__ = ".*"', '__version__ = "99.0"')
    edit(copy / "__init__.py", r"\Z", "if TYPE_CHECKING:\n    import microgpt.cli\n")
    edit(copy / "core/optim/adam.py", r'^"""', '"""More words. ')
    edit(copy / "core/optim/adam.py", r'^(    """)', r"\1More words. ")
    edit(copy / "core/optim/base.py", r"\n\n", "\n\n\n# A comment.\n\n")
    assert source_by(copy, *names) == before
    edit(copy / "core/optim/adam.py", r" \* ", " / ")
    assert source_by(copy, *names) != before
