"""The pages of experiments/ are those that their locks give today."""

from pathlib import Path

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.report.index import write_index
from microgpt.ablation.report.page import linked
from microgpt.ablation.report.readme import render_readme
from tests.running import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"
FOLDERS = sorted(file.parent.name for file in EXPERIMENTS.glob(f"*/{LOCK}"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_page_is_what_its_lock_gives(name: str) -> None:
    """`microgpt report --publish --from-lock NAME` writes it anew."""
    folder = EXPERIMENTS / name
    page = linked(render_readme(read_lock(folder / LOCK)), folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == page


def test_the_gallery_is_what_the_locks_give(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).symlink_to(EXPERIMENTS / name)
    (tmp_path / "method").symlink_to(EXPERIMENTS / "method")
    write_index(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (EXPERIMENTS / "README.md").read_text(encoding="utf-8") == page
