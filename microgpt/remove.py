"""`microgpt rm`: removes runs and sweeps, here and in their stores; never a file that we did not make."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from microgpt.console import out
from microgpt.run.find import find_folder
from microgpt.run.folder import RunFolder
from microgpt.run.record import Record
from microgpt.run.sweep import SweepFolder, all_sweeps
from microgpt.terminal import ConfigError, counted
from microgpt.tracking.removal import Stored, stored_of
from microgpt.tracking.store import one_sends
from microgpt.tracking.sync import Folder


class Removed(NamedTuple):
    """What was removed; nothing if the answer was no."""

    runs: list[str]  # ids
    sweeps: list[str]
    mlflow: list[str]  # the MLflow ids of runs in stores
    kept: list[str]  # files in the folders that we did not make


def remove(names: Sequence[str], outputs: Path, sure: bool) -> Removed:
    """Removes what is named, after it was asked for unless `sure`.

    Nothing is removed if anything named is unknown or under way, or a store fails. Raises NoSuchRun,
    Busy, BadRecord, BadValue and ConfigError.
    """
    folders = list(_folders([_named(outputs, name) for name in names]))
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(folder.locked(0.0))
        stored = stored_of(folders, outputs)
        _tell(folders, stored)
        if not sure and not _agreed():
            out.print("nothing removed")
            return Removed([], [], [], [])
        gone = Removed(
            [each.path.name for each in folders if isinstance(each, RunFolder)],
            [each.path.name for each in folders if isinstance(each, SweepFolder)],
            [str(each.run.info.run_id) for each in stored],
            [str(file) for each in folders for file in _foreign(each)],
        )
        for folder in folders:
            held.enter_context(one_sends(folder))
        for each in stored:
            each.remove()
        for folder in folders:
            _remove(folder)
    out.print("removed")
    return gone


def _remove(folder: Record) -> None:
    """Removes what we made in a folder, and the folder itself if that was all."""
    for file in folder.made:  # the record first: half a folder is none
        file.unlink()
    for place in (folder.path / "checkpoints", folder.path):
        with suppress(OSError):  # it is not empty, or not there
            place.rmdir()


def _foreign(folder: Record) -> list[Path]:
    """The files in a folder that we did not make."""
    made = set(folder.made)
    return [file for file in folder.path.rglob("*") if not file.is_dir() and file not in made]


def _named(outputs: Path, name: str) -> Folder:
    """The run or the sweep that is called so. Raises NoSuchRun, and ConfigError for a link to one."""
    found = find_folder(outputs, name)
    if found.path.is_symlink():
        raise ConfigError(f"{name}: is a link; name the folder, {found.path.resolve()}")
    return found


def _folders(named: Sequence[Folder]) -> Iterator[Folder]:
    """The folders to remove: those that are named, and the runs of sweeps that no other sweep has."""
    gone = {each.path for each in named}
    seen: set[Path] = set()
    for each in named:
        alone = _alone(each, gone) if isinstance(each, SweepFolder) else []
        for folder in [*alone, each]:
            if folder.path not in seen:
                seen.add(folder.path)
                yield folder


def _alone(sweep: SweepFolder, gone: set[Path]) -> list[RunFolder]:
    """The runs of a sweep that no other sweep beside it has, but for those in `gone`."""
    beside = all_sweeps(sweep.path.parent.parent)  # perhaps not in the usual outputs
    others = {other.path.name for other in beside if other.path not in gone}
    own = [sweep.run(job) for job in sweep.jobs]
    return [run for run in own if run.exists and not others & {*run.info.get("sweeps", {})}]


def _tell(folders: Sequence[Folder], stored: Sequence[Stored]) -> None:
    """What would go, and what that frees."""
    runs = [folder for folder in folders if isinstance(folder, RunFolder)]
    for folder in folders:
        if isinstance(folder, SweepFolder) or len(runs) <= 5:
            kind = "sweep" if isinstance(folder, SweepFolder) else "run  "
            out.print(
                f"{kind}  {folder.path.name}  {folder.status}  {folder.info['name']}", markup=False
            )
        if others := _foreign(folder):
            what = f"{counted(len(others), 'file')} that microgpt did not make"
            out.print(f"keeps  {what}, in {folder.path}", markup=False)
    here = _size([file for folder in folders for file in folder.made])
    there = _size([file for each in stored if (at := each.artifacts) for file in at.rglob("*")])
    own = f"{decimal(here)} in {counted(len(folders), 'folder')}"
    out.print(
        f"frees  {own}; in MLflow {counted(len(stored), 'run')} and {decimal(there)} of files"
    )


def _agreed() -> bool:
    """Asks. Raises ConfigError where nobody can answer."""
    if not sys.stdin.isatty():
        raise ConfigError("rm: add --yes to remove this without being asked")
    try:
        return input("remove this for good? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


def _size(files: Sequence[Path]) -> int:
    """The bytes that the removal of files frees: not those of files that have other names."""
    found = [file.stat() for file in files if file.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)
