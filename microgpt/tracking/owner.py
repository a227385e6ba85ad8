"""Whose a run of a store is: it belongs to one folder, and no other folder writes into it.

Its tags name the folder: `microgpt.uid` was made with the folder, and stays with what is moved or copied;
`microgpt.folder` is the machine and the path that it was last sent from. A folder goes on with the run of
its uid if it lies at that path, if nothing lies there any more (it was moved), or if another machine sees
the same folder there (by its inode). Else it is a copy, and has a run of its own; but for the database in
its outputs, which was copied with it.
"""

import os
from collections.abc import Callable, Mapping
from getpass import getuser
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from microgpt.run.record import FAILED, FINISHED, KILLED, RUNNING, STOPPED, Record
from microgpt.run.sweep import SweepFolder
from microgpt.tracking.address import database_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS = {
    RUNNING: "RUNNING",
    FINISHED: "FINISHED",
    FAILED: "FAILED",
    STOPPED: "KILLED",  # on purpose
    KILLED: "FAILED",
}
OURS = {"FINISHED": FINISHED, "FAILED": FAILED, "KILLED": STOPPED}
NAME, UID, FOLDER, INODE = "microgpt.id", "microgpt.uid", "microgpt.folder", "microgpt.inode"


def run_of(
    client: "MlflowClient",
    folder: Record,
    experiment: str,
    first_tags: Callable[[], Mapping[str, str]],
    **new: Any,
) -> "Run":
    """The run of a folder in a store, made with `first_tags` and as `new` says if there is none.

    Of two, made by one call that seemed to fail, one stays. For a copy of a folder whose run has come
    to the same end it is that run: there is nothing to send, and `is_own` is false.
    """
    uid = folder.info.get("uid", "")  # folders of earlier versions have none
    found = [] if _is_unknown(folder) else _of_uid(client, experiment, folder, uid)
    own = [run for run in found if is_own(run, folder)]
    for twin in own[1:]:
        client.delete_run(twin.info.run_id)
    if not own:
        left = [run for run in found if _is_left(client, run, folder)]
        own = [_taken(client, run, folder) for run in left[:1]]
    if not own and (status := folder.status) != RUNNING:
        end = final(folder, status)
        own = [run for run in found if (run.info.status, run.info.end_time) == end]
    if not own:
        tags = {NAME: folder.path.name, "mlflow.user": _user(), "mlflow.source.type": "LOCAL"}
        tags |= {"mlflow.source.name": "microgpt train", **({UID: uid} if uid else {})}
        tags |= {**_place(folder), **first_tags()}
        own = [client.create_run(experiment, tags=tags, **new)]
    run: Run = own[0]
    if folder.mlflow_run_id != run.info.run_id:
        folder.mlflow_run_id = run.info.run_id
    return run


def _is_unknown(folder: Record) -> bool:
    """Whether no store can have a run of a folder. Said once: a call that fails may have made one."""
    is_new, folder.is_new = folder.is_new, False
    return is_new and not folder.mlflow_run_id


def _of_uid(client: "MlflowClient", experiment: str, folder: Record, uid: str) -> "list[Run]":
    """The runs of a folder, and of its copies."""
    query = f"tags.`{UID}` = '{uid}'" if uid else f"tags.`{NAME}` = '{folder.path.name}'"
    found = client.search_runs([experiment], query)
    return [run for run in found if run.data.tags.get(UID, "") == uid]


def is_own(run: "Run", folder: Record) -> bool:
    """Whether a run of the folder's uid belongs to the folder where it lies."""
    there: str | None = run.data.tags.get(FOLDER)
    return there == _place(folder)[FOLDER]


def goes_with(client: "MlflowClient", run: "Run", folder: Record) -> bool:
    """Whether a run is the folder's: it belongs to where it lies, or did before the folder was moved."""
    is_its = run.data.tags.get(UID, "") == folder.info.get("uid", "")
    return is_own(run, folder) or (is_its and _is_left(client, run, folder))


def status_of(run: "Run") -> str:
    """The status of a run in a store, in our words."""
    return OURS.get(run.info.status, RUNNING)


def final(folder: Any, status: str) -> tuple[str, int]:
    """The status and the end time in a store of what has ended so."""
    return STATUS[status], round(folder.ended * 1000)


def _place(folder: Record) -> dict[str, str]:
    """The tags that say where a folder lies."""
    inode = str(os.stat(folder.path).st_ino)
    return {FOLDER: f"{gethostname()}:{folder.path}", INODE: inode}


def _is_left(client: "MlflowClient", run: "Run", folder: Record) -> bool:
    """Whether a run that belongs to another place is the folder's all the same."""
    tags = run.data.tags
    is_named: bool = folder.mlflow_run_id == run.info.run_id
    host, _, path = tags.get(FOLDER, "").partition(":")
    if not path:  # it was made by an earlier version
        return is_named
    outputs, database = folder.path.parent.parent, database_file(client.tracking_uri)
    is_theirs = host == gethostname() and Path(path).is_relative_to(outputs)
    if database and database.parent == outputs and not is_theirs:
        return is_named  # the database was moved or copied with the folder
    if host == gethostname():
        return _is_gone(os.path.join(path, folder.FILE)) or _is_same(path, folder)
    return is_named and bool(tags.get(INODE) == _place(folder)[INODE])


def _is_gone(path: str) -> bool:
    """Whether there is no such file; one that may not be looked at is there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _is_same(path: str, folder: Record) -> bool:
    """Whether a folder has two paths, by a link or a mount."""
    try:
        return os.path.samefile(path, folder.path)
    except OSError:
        return False


def _taken(client: "MlflowClient", run: "Run", folder: Record) -> "Run":
    """A run that from now on belongs to the folder where it lies."""
    from mlflow.entities import RunTag

    place = _place(folder)
    client.log_batch(run.info.run_id, tags=[RunTag(*pair) for pair in place.items()])
    run.data.tags.update(place)
    return run


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a user id that no name belongs to
        return "unknown"


def sweep_run(client: "MlflowClient", folder: SweepFolder, experiment: str) -> "Run":
    """A sweep's run in a store, which is made if need be."""
    info = folder.info
    tags = {
        "sweep.id": folder.path.name,
        "sweep.signature": info["signature"],
        "source": info["source"],
    }
    if info["experiment"]:
        tags["sweep.experiment"] = info["experiment"]
    begun = round(info["begun"] * 1000)
    new = {"start_time": begun, "run_name": info["name"]}
    return run_of(client, folder, experiment, lambda: tags, **new)
