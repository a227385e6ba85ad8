"""The pages on how to do things: every command on them, with the files that they show, cut short."""

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from microgpt.ablation.judge.judge import CODES
from microgpt.run.folder import all_runs
from tests.command import command
from tests.running import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = ["own-text", "own-part", "own-question", "troubleshooting"]
SHORT = ["trainer.num_steps=10", "trainer.eval_every=5", "trainer.eval_documents=5"]
SHORT += ["trainer.checkpoint_every=5", "sampling.num_samples=2"]
FILE = re.compile(r"^File `(.+?)`:\n\n((?:    .*\n|\n)+)", re.MULTILINE)
TICKS = re.compile(r"`(microgpt/[\w./]+|[\w-]+\.md)`|\]\(([^)#]+)\)")


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def words_of(line: str, place: Path) -> Iterator[str]:
    """The words of a command as the test runs it."""
    for word in shlex.split(line)[1:]:
        yield re.sub(r"\bRUN\b", lambda _: all_runs(place / "outputs")[-1].path.name, word)
    if line.startswith("microgpt train") and not re.search(r"--cfg|--info", line):
        yield from SHORT
        yield from ["hydra.launcher.workers=1"] if " -m " in line else []
    if line.startswith("microgpt judge"):
        yield from [*SHORT[:-1], "--most=5", "--workers=1"]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page(page: str, tmp_path: Path, store_template: Path) -> None:
    (tmp_path / "outputs").mkdir()
    shutil.copy(store_template, tmp_path / "outputs/mlflow.db")
    for name, content in FILE.findall(text(page)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(dedent(content))
    lines = [line.strip() for line in text(page).splitlines() if line.startswith("    microgpt ")]
    assert len(lines) > 2
    path = os.pathsep.join(["own", *filter(None, [os.environ.get("PYTHONPATH")])])
    for line in lines:
        ended = command([*words_of(line, tmp_path)], tmp_path, PYTHONPATH=path)
        answers = CODES.values() if line.startswith("microgpt judge") else [0]
        assert ended.code in answers, (line, ended)
        assert "Traceback" not in ended.err, (line, ended)
    for report in tmp_path.glob("outputs/reports/*/README.md"):
        again = f"microgpt train -m experiment={report.parent.name} --config-dir own"
        assert again in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted(file.stem for file in DOCS.glob("*.md")))
def test_a_page_names_only_what_is_there(page: str) -> None:
    for path, link in TICKS.findall(text(page)):
        if not link.startswith("http"):
            base = DOCS if link else REPOSITORY
            assert (base / (link or path)).exists() or (DOCS / path).exists(), (page, link or path)


def test_the_readme_leads_to_every_page() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for file in DOCS.glob("*.md"):
        assert f"(docs/{file.name})" in readme, file.name
