"""The files of a run in a store, in one call; documents once a sweep, not once a run."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from microgpt.run.documents import DOCUMENTS
from microgpt.run.folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo, Run

CHECKPOINTS = "checkpoints"
PARENT = "mlflow.parentRunId"  # the tag that has the run of a run's sweep
SHARED = "documents"  # the folder of a sweep's run that holds its jobs' documents, by their digests


class Parents:
    """The runs of sweeps in one store, and the documents that they are known to hold."""

    def __init__(self) -> None:
        self.runs: dict[Path, str] = {}  # a sweep's folder -> its run's id
        self.documents: set[tuple[str, str]] = set()  # a run's id, an artifact
        self.there: set[str] = set()  # ids of runs that the store has


def send_files(client: "MlflowClient", folder: RunFolder, run: "Run", parents: Parents) -> None:
    """All files of a folder, but for the checkpoints that are there and the documents of a sweep."""
    there = {file.path: file.file_size for file in _listed(client, run, CHECKPOINTS)}
    names = _own_files(folder, run)
    new = [n for n in names if there.get(n.as_posix()) != (folder.path / n).stat().st_size]
    _send_all(client, folder, run, parents, new)


def send_missing(client: "MlflowClient", folder: RunFolder, run: "Run", parents: Parents) -> None:
    """The files that a store has not, and the facts: of the others the folder may have damaged ones."""
    there = _names_there(client, run)
    names = _own_files(folder, run)
    new = [n for n in names if n.as_posix() not in there or n.name == folder.FILE]
    _send_all(client, folder, run, parents, new)


def has_files(client: "MlflowClient", folder: RunFolder, run: "Run", parents: Parents) -> bool:
    """Whether a store has all files of a folder."""
    names = {name.as_posix() for name in _own_files(folder, run)}
    documents = folder.path / DOCUMENTS
    shared = shared_documents(run) if documents.is_file() else None
    is_shared = shared is None or _is_shared(client, run, documents, shared, parents)
    return names <= _names_there(client, run) and is_shared


def _names_there(client: "MlflowClient", run: "Run") -> set[str]:
    return {file.path for place in ("", CHECKPOINTS) for file in _listed(client, run, place)}


def _send_all(
    client: "MlflowClient", folder: RunFolder, run: "Run", parents: Parents, names: list[Path]
) -> None:
    if (shared := shared_documents(run)) and (folder.path / DOCUMENTS).is_file():
        _share(client, run, folder.path / DOCUMENTS, shared, parents)
    _send(client, run, {name: folder.path / name for name in names})


def _own_files(folder: RunFolder, run: "Run") -> list[Path]:
    """The files of a folder, relative to it, less the documents where its sweep has them."""
    names = [file.relative_to(folder.path) for file in folder.files()]
    return [name for name in names if name != Path(DOCUMENTS) or not shared_documents(run)]


def shared_documents(run: "Run") -> str | None:
    """The artifact of its sweep's run that holds a run's documents; None where it has neither."""
    tags = run.data.tags
    known = PARENT in tags and "data.digest" in tags
    return f"{SHARED}/{tags['data.digest']}.txt" if known else None


def _share(client: "MlflowClient", run: "Run", file: Path, name: str, parents: Parents) -> None:
    """Send documents to the run of a sweep, if it has not got them."""
    if not _is_shared(client, run, file, name, parents):
        parent = run.data.tags[PARENT]
        _send(client, client.get_run(parent), {Path(name): file})
        parents.documents.add((parent, name))


def _is_shared(client: "MlflowClient", run: "Run", file: Path, name: str, parents: Parents) -> bool:
    """Whether the run of a sweep has documents whole, which is asked once."""
    parent = run.data.tags[PARENT]
    if (parent, name) not in parents.documents:
        there = {each.path: each.file_size for each in client.list_artifacts(parent, SHARED)}
        # Less may be there of a copy that was broken off; what a store does not measure is whole.
        if name not in there or (there[name] or math.inf) < file.stat().st_size:
            return False
        parents.documents.add((parent, name))
    return True


def leave_removed(client: "MlflowClient", run: "Run", parents: Parents) -> None:
    """Have a run leave the run of its sweep if that was removed: it keeps its documents itself then."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    parent = run.data.tags.get(PARENT)
    if parent is None or parent in parents.there:
        return
    try:
        client.get_run(parent)
        parents.there.add(parent)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        client.delete_tag(run.info.run_id, PARENT)
        del run.data.tags[PARENT]


def _listed(client: "MlflowClient", run: "Run", place: str) -> "list[FileInfo]":
    """The artifacts of a run in a folder."""
    return list(_repository(client, run).list_artifacts(place or None))


def _send(client: "MlflowClient", run: "Run", files: dict[Path, Path]) -> None:
    """Files under new names, in one call: the folder that it is given holds links to them."""
    with TemporaryDirectory(prefix="microgpt-") as place:
        for name, file in files.items():
            link = Path(place, name)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file)
        _repository(client, run).log_artifacts(place)


def _repository(client: "MlflowClient", run: "Run") -> Any:
    """Where the artifacts of a run are; the client would ask for the run first, with all it has."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)
