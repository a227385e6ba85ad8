"""Whether experiments that ask the same elsewhere, of another split or size, reached the same verdict."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.evidence.lock import LOCK, read_lock
from microgpt.core.check import BadValue
from microgpt.run.reading import BadRecord
from microgpt.tracking.find import find_parent

if TYPE_CHECKING:
    from mlflow import MlflowClient


def elsewhere(
    names: Iterable[str], verdict: str | None, experiments: Path, client: "MlflowClient", store: str
) -> list[dict[str, Any]]:
    """The verdict of each experiment, by its lock in the folder `experiments` or else by the store.

    `same` is None if either has no verdict.
    """
    rows = []
    for name in names:
        found = _locked(experiments / name / LOCK) or _stored(client, name, store)
        same = found == verdict if found and verdict else None
        rows.append({"experiment": name, "verdict": found, "same": same})
    return rows


def _locked(path: Path) -> str | None:
    with suppress(BadRecord):
        return read_lock(path)["verdict"] or None
    return None


def _stored(client: "MlflowClient", name: str, store: str) -> str | None:
    with suppress(BadValue):
        return find_parent(client, name, store).data.tags.get("verdict")
    return None
