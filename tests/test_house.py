"""The shape of the code: arrows that point down, a core that stands alone, and stays small."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "microgpt"
CORE = PACKAGE / "core"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import those of its own floor and of the floors below.
FLOORS = [
    {"core"},
    {"vector", "accelerate", "run", "datasets", "signals", "syntax", "terminal"},
    {"tracking"},
    {"build", "complaints", "console", "guard", "parts", "ui"},
    {"one_run", "train", "sample"},
    {"sweep"},
    {"app", "override"},
    {"ablation"},
    {"cli"},
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
        "train",
        "sample",
        "sweep",
    },
    "distributed": {"sweep"},
    "mlflow": {"tracking", "ablation"},
    "numpy": {"accelerate"},
    "scipy": {"ablation"},
    "matplotlib": {"ablation"},
}
# The soul of the original: tokenizer, autograd, model, Adam, sampling.
SOUL = ["tokenizer.py", "engine/scalar.py", "model.py", "optim/adam.py", "sampling.py"]


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, but for type checking."""
    found: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    conditions = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    typing = [node for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING"]
    for node in typing:
        node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    """`microgpt.run.folder` -> `run`."""
    return module.split(".")[1] if module.startswith("microgpt.") else ""


def floor(name: str) -> int:
    found = [i for i, rooms in enumerate(FLOORS) if name in rooms]
    assert found, f"{name} stands on no floor"
    return found[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for module in imports(file):
        target = room(module)
        if (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file():
            assert not target or floor(target) <= floor(own), f"{own} imports {module}"
        allowed = ONLY_IN.get(module.partition(".")[0])
        assert allowed is None or own in allowed, f"{own} imports {module}"


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


def test_the_soul_is_no_longer_than_the_original() -> None:
    count = {name: code_lines(CORE / name) for name in SOUL}
    assert sum(count.values()) <= 243, count


def test_the_core_can_be_read_in_an_evening() -> None:
    assert sum(code_lines(file) for file in CORE.rglob("*.py")) < 1200
