"""The shape of the code: arrows that point down, a core that stands alone, and stays small."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from microgpt.app import config_path
from microgpt.build import resolve
from microgpt.run.source import modules, source_files

PACKAGE = Path(__file__).parent.parent / "microgpt"
CORE = PACKAGE / "core"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import those of its own floor and of the floors below.
FLOORS = [
    {"core"},
    {
        "child",
        "protocol",
        "vector",
        "native",
        "accelerate",
        "run",
        "datasets",
        "secret",
        "hints",
        "meanings",
        "resolvers",
        "signals",
        "ablation.claims",
        "ablation.statistics",
        "syntax",
        "terminal",
    },
    {"tracking"},
    {"build", "complaints", "console", "guard", "extend", "parts", "trust", "ui"},
    {"one_run", "train", "sample", "listing", "remove"},
    {"sweep"},
    {"app", "override"},
    {"ablation", "variants"},
    {"api", "serving"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
ONLY_IN = {
    "hydra": {"app", "complaints", "override", "parts", "sweep"},
    "omegaconf": {
        "ablation",
        "app",
        "build",
        "complaints",
        "guard",
        "override",
        "resolvers",
        "train",
        "sample",
        "sweep",
    },
    "distributed": {"sweep"},
    "mlflow": {"tracking", "ablation", "serving"},
    "numpy": {"accelerate", "ablation"},
    "scipy": {"ablation"},
    "matplotlib": {"ablation"},
    "pandas": {"api", "serving"},
}


def name_of(file: Path) -> str:
    """`microgpt/run/folder.py` -> `microgpt.run.folder`."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, but for type checking."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    home = name_of(file) if file.stem == "__init__" else name_of(file.parent)
    return imported(tree, home)


def imported(tree: ast.AST, home: str) -> set[str]:
    """Every module that a tree imports which stands in the package `home`."""
    found: set[str] = set()
    conditions = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = [node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING"]
    for condition in typing:
        condition.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), home)
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= names & MODULES.keys()
            found |= {module} if names - MODULES.keys() else set()
    return found


def test_relative_imports_are_imports() -> None:
    tree = ast.parse("from ..build import part\nfrom . import folder\nfrom .. import cli\n")
    found = imported(tree, "microgpt.run")
    assert found == {"microgpt.build", "microgpt.run.folder", "microgpt.cli"}


def room(module: str) -> str:
    """`microgpt.run.folder` -> `run`; a room within a room has a floor of its own."""
    names = module.split(".")[1:] if module.startswith("microgpt.") else [""]
    inner = ".".join(names[:2])
    return inner if any(inner in rooms for rooms in FLOORS) else names[0]


def floor(name: str) -> int:
    found = [i for i, rooms in enumerate(FLOORS) if name in rooms]
    assert found, f"{name} stands on no floor"
    return found[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file: Path) -> None:
    own = room(name_of(file))
    if not own:
        return
    for module in imports(file):
        target = room(module)
        if (PACKAGE / target.replace(".", "/")).is_dir() or (PACKAGE / f"{target}.py").is_file():
            assert not target or floor(target) <= floor(own), f"{own} imports {module}"
        allowed = ONLY_IN.get(module.partition(".")[0])
        top = own.partition(".")[0]
        assert allowed is None or top in allowed, f"{own} imports {module}"


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of a graph, if it has any."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {name: imports(file) & MODULES.keys() for name, file in MODULES.items()}
    assert circle(graph) == []


def test_rooms_import_each_other_in_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, file in MODULES.items():
        found = {room(module) for module in imports(file) & MODULES.keys()}
        graph.setdefault(room(name), set()).update(found - {"", room(name)})
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])


@pytest.mark.parametrize(
    "file", sorted(CORE.rglob("*.py")), ids=lambda file: str(file.relative_to(CORE))
)
def test_the_core_imports_the_standard_library_and_itself(file: Path) -> None:
    for module in imports(file):
        top = module.partition(".")[0]
        assert top in sys.stdlib_module_names or module.startswith("microgpt.core"), module


def test_the_core_trains_without_any_package() -> None:
    program = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from tests.golden.check import FILES, check
check([file for file in FILES if file.stem == "n_embd-8"][0])
"""
    subprocess.run([sys.executable, "-S", "-I", "-c", program], check=True)


def test_the_package_itself_computes_nothing() -> None:
    """Its __init__ is no part of a run's source: a program that imports it must get nothing else."""
    program = (
        "import sys; before = set(sys.modules); import microgpt; print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=PACKAGE.parent)
    ours = {name for name in done.stdout.split() if name.startswith("microgpt")}
    others = {name.partition(".")[0] for name in done.stdout.split()} - {"microgpt"}
    assert ours == {"microgpt"}
    assert others <= sys.stdlib_module_names
    said = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    kinds = {type(statement) for statement in said}
    assert kinds <= {
        ast.Expr,
        ast.Import,
        ast.ImportFrom,
        ast.If,
        ast.Assign,
        ast.ClassDef,
        ast.For,
    }


def code_lines(file: Path) -> int:
    """Lines with code: no blanks, no comments, no docstrings."""
    text = file.read_text(encoding="utf-8")
    lines: set[int] = set()
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing and token.string:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def files_of_a_run() -> dict[str, Path]:
    """All the code of the core that the default configuration reaches, by imports."""
    with initialize_config_dir(str(config_path()), version_base="1.3"):
        config = resolve(compose("train", ["engine=scalar", "tracking=none"]))
    reached = source_files(modules(config))
    return {name: file for name, file in reached.items() if file.is_relative_to(CORE)}


def test_the_readme_says_how_much_code_a_run_is() -> None:
    lines = [code_lines(file) for file in files_of_a_run().values()]
    readme = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    said = re.search(
        r"runs is some ([\d,]+) lines, .*?(\d+) files; the whole core has ([\d,]+)\.", readme, re.S
    )
    assert said is not None
    whole = sum(code_lines(file) for file in CORE.rglob("*.py"))
    now = [sum(lines), sum(count > 0 for count in lines), whole]
    numbers = [int(number.replace(",", "")) for number in said.groups()]
    assert numbers == pytest.approx(now, rel=0.03)


def test_the_core_can_be_read_in_an_evening() -> None:
    """What a run reaches of it; and every part in a minute."""
    reached = set(files_of_a_run().values())
    assert sum(map(code_lines, reached)) < 1800
    parts = set(CORE.rglob("*.py")) - reached
    assert {file: lines for file in parts if (lines := code_lines(file)) > 60} == {}
