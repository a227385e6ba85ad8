"""Whether experiments that ask the same elsewhere, of another split or size, reached the same verdict."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.evidence.files import README, changed, covered, numbers_sha256
from microgpt.ablation.evidence.lock import LOCK, text_of
from microgpt.ablation.report import words
from microgpt.ablation.report.index import whole
from microgpt.ablation.report.page import html_page, linked
from microgpt.ablation.report.place import renewed
from microgpt.ablation.report.sizes import both
from microgpt.core.check import BadValue
from microgpt.run.reading import BadRecord, read_text
from microgpt.terminal import complain
from microgpt.tracking.find import find_parent

if TYPE_CHECKING:
    from mlflow import MlflowClient


def elsewhere(
    names: Iterable[str],
    lock: Mapping[str, Any],
    experiments: Path,
    client: "MlflowClient",
    store: str,
) -> list[dict[str, Any]]:
    """What each experiment says beside `lock`, by its lock in `experiments`, or else by the store."""
    rows = []
    for name in names:
        if other := _locked(experiments / name / LOCK):
            rows.append(beside(lock, other, name))
        else:
            rows.append(_row(lock, _stored(client, name, store), name))
    return rows


def beside(lock: Mapping[str, Any], other: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The verdict of the experiment `name`, whose lock is `other`, beside that of `lock`.

    `same` is None if either has no verdict. `contradict` are the arms on which no difference fits both.
    """
    arms = [arm.one["arm"] for arm in both(lock, other) if arm.contradict]
    return _row(lock, other["verdict"], name) | {"contradict": arms}


def _row(lock: Mapping[str, Any], found: str | None, name: str) -> dict[str, Any]:
    same = found == lock["verdict"] if found and lock["verdict"] else None
    return {"experiment": name, "verdict": found, "same": same, "contradict": []}


def tell_others(experiments: Path, lock: Mapping[str, Any]) -> list[Path]:
    """Writes a verdict into the reports of experiments that ask the same; returns their folders.

    A report stays as it is if its lock cannot be read, its files are not as it was written, or its line
    was rewritten by hand.
    """
    folders = []
    for file in sorted(experiments.glob(f"*/{LOCK}")):
        try:
            if _told(file, lock):
                folders.append(file.parent)
        except BadRecord:
            continue
        except OSError as error:  # of an archive, perhaps
            complain(f"{file.parent}: does not say so yet ({error})")
    return folders


def _told(file: Path, lock: Mapping[str, Any]) -> bool:
    """Whether a report said something else of the experiment of `lock`, and was written anew.

    Raises BadRecord.
    """
    name, folder = str(lock["experiment"]), file.parent
    # To look for the name takes a small part of the time that reading a lock takes.
    if f'"experiment": {json.dumps(name)}' not in read_text(file):
        return False
    other = whole(file)
    rows = {row["experiment"]: row for row in other["robustness"]}
    new = beside(other, lock, name)
    if rows.get(name, new) == new or changed(folder, other["files"], other["numbers"]):
        return False
    (line,) = words.robustness({"robustness": [new]})
    old = re.compile(rf"^- (\[{re.escape(name)}\]\(.*\)|{re.escape(name)}): .*$", re.MULTILINE)
    page, found = old.subn(lambda _: linked(f"- {line}", folder), read_text(folder / README))
    if found == 1:
        _write_anew(folder, page, {**other, "robustness": [*(rows | {name: new}).values()]})
    return found == 1


def _write_anew(folder: Path, page: str, lock: dict[str, Any]) -> None:
    """Writes a report with another page, and a lock of it."""
    with renewed(folder) as new:
        shutil.copytree(folder, new, dirs_exist_ok=True)
        (new / README).write_text(page, encoding="utf-8")
        html = html_page(page, str(lock["experiment"]), new)
        (new / "report.html").write_text(html, encoding="utf-8")
        del lock["digest"]  # which is that of the old content
        lock |= {"files": covered(new), "numbers": numbers_sha256(new)}
        (new / LOCK).write_text(text_of(lock), encoding="utf-8")


def _locked(path: Path) -> dict[str, Any] | None:
    """A lock that can be read and has a verdict."""
    with suppress(BadRecord):
        found = whole(path)
        return found if found["verdict"] else None
    return None


def _stored(client: "MlflowClient", name: str, store: str) -> str | None:
    with suppress(BadValue):
        return find_parent(client, name, store).data.tags.get("verdict")
    return None
