"""The pages of experiments/ are those that their locks give today."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.ablation.report.index import write_index
from microgpt.ablation.report.page import linked
from microgpt.ablation.report.readme import render_readme
from microgpt.ablation.report.repeats import repeats, shares
from microgpt.ablation.report.robustness import beside
from microgpt.ablation.reproduce.renew import with_limits
from tests.running import REPOSITORY

EXPERIMENTS = REPOSITORY / "experiments"
FOLDERS = sorted(file.parent.name for file in EXPERIMENTS.glob(f"*/{LOCK}"))


@cache
def lock_of(name: str) -> dict[str, Any]:
    return read_lock(EXPERIMENTS / name / LOCK)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_page_is_what_its_lock_gives(name: str) -> None:
    """`microgpt report --publish --from-lock NAME` writes it anew."""
    folder = EXPERIMENTS / name
    page = linked(render_readme(lock_of(name)), folder)
    assert (folder / "README.md").read_text(encoding="utf-8") == page


def test_a_lock_says_of_the_others_what_they_say() -> None:
    locks = [lock_of(name) for name in FOLDERS]
    for lock in locks:
        name = lock["experiment"]
        assert (name, lock["repeats"]) == (name, repeats(lock, locks))
        assert (name, lock["shares"]) == (name, shares(lock, locks))
        for row in lock["robustness"]:
            assert (name, row) == (
                name,
                beside(lock, lock_of(row["experiment"]), row["experiment"]),
            )


@pytest.mark.slow
def test_the_limits_are_those_of_the_experiments_file() -> None:
    for name in FOLDERS:
        assert (name, lock_of(name)["ablation"]) == (name, with_limits(lock_of(name)))


def test_the_gallery_is_what_the_locks_give(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / name).symlink_to(EXPERIMENTS / name)
    (tmp_path / "method").symlink_to(EXPERIMENTS / "method")
    write_index(tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (EXPERIMENTS / "README.md").read_text(encoding="utf-8") == page
