"""The files of a run in a store, in one call; documents once a sweep, not once a run."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from microgpt.run.documents import DOCUMENTS
from microgpt.run.folder import RunFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

SHARED = "documents"  # the folder of a sweep's run that holds its jobs' documents, by their digests


class Parents:
    """The runs of sweeps in one store, and the documents that they are known to hold."""

    def __init__(self) -> None:
        self.runs: dict[Path, str] = {}  # a sweep's folder -> its run's id
        self.documents: set[tuple[str, str]] = set()  # a run's id, an artifact


def send_files(
    client: "MlflowClient", folder: RunFolder, run: "Run", parents: Parents, *, is_new: bool
) -> None:
    """All files of a folder, but for the checkpoints that are there and the documents of a sweep."""
    run_id, shared = str(run.info.run_id), shared_documents(run)
    listed = [] if is_new else client.list_artifacts(run_id, "checkpoints")
    there = {file.path: file.file_size for file in listed}
    names = [file.relative_to(folder.path) for file in folder.files()]
    if shared and Path(DOCUMENTS) in names:
        names.remove(Path(DOCUMENTS))
        parent = run.data.tags["mlflow.parentRunId"]
        _share(client, parent, folder.path / DOCUMENTS, Path(shared), parents)
    new = [n for n in names if there.get(n.as_posix()) != (folder.path / n).stat().st_size]
    _send(client, run_id, {name: folder.path / name for name in new})


def shared_documents(run: "Run") -> str | None:
    """The artifact of its sweep's run that holds a run's documents; None where it has neither."""
    tags = run.data.tags
    known = "mlflow.parentRunId" in tags and "data.digest" in tags
    return f"{SHARED}/{tags['data.digest']}.txt" if known else None


def _share(client: "MlflowClient", parent: str, file: Path, name: Path, parents: Parents) -> None:
    """Send documents to the run of a sweep, if it has not got them."""
    known = parent, name.as_posix()
    if known in parents.documents:
        return
    listed: Sequence[str] = [each.path for each in client.list_artifacts(parent, SHARED)]
    if name.as_posix() not in listed:
        _send(client, parent, {name: file})
    parents.documents.add(known)


def _send(client: "MlflowClient", run_id: str, files: dict[Path, Path]) -> None:
    """Files under new names, in one call: the folder that it is given holds links to them."""
    with TemporaryDirectory(prefix="microgpt-") as place:
        for name, file in files.items():
            link = Path(place, name)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file)
        client.log_artifacts(run_id, place)
