"""docs/python.md and the notebook, as they stand there."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.running import REPOSITORY

pytestmark = pytest.mark.slow
NOTEBOOK = REPOSITORY / "docs/from-200-lines-to-an-ablation.ipynb"


@pytest.fixture
def empty(store_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with nothing in it but a new store, which takes seconds to make."""
    (tmp_path / "outputs").mkdir()
    shutil.copy(store_template, tmp_path / "outputs/mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MICROGPT_OUTPUTS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def texts(book: nbformat.NotebookNode) -> list[str]:
    """What the cells printed and returned, without pictures, and that a busy machine's store is late."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    told = [output for output in outputs if output.get("name") != "stderr"]
    return [output.get("text") or output["data"]["text/plain"] for output in told]


def test_the_notebook_from_a_clean_kernel(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    book = nbformat.read(NOTEBOOK, as_version=4)
    committed = texts(book)
    resources = {"metadata": {"path": str(empty)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    assert texts(book) == committed
    assert len(committed) > 6
    assert "Downloading" not in str(book.cells)  # MLflow's bars of progress, one for each file


def test_the_page_about_python(empty: Path) -> None:
    lines = (REPOSITORY / "docs/python.md").read_text(encoding="utf-8").splitlines()
    code = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    names: dict[str, object] = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert {"run", "sweep"} < names.keys()
