"""Finds run and sweep folders by what a user calls them."""

from pathlib import Path

from microgpt.run.folder import SHORTEST, NoSuchRun, RunFolder, all_runs, begins, find_run
from microgpt.run.reading import BadRecord
from microgpt.run.sweep import SweepFolder, all_sweeps


def find_sweep(outputs: Path, reference: str) -> SweepFolder | None:
    """The sweep with this path, id or MLflow id; the latest of this experiment; one whose id begins so.

    None if there is none, or more than one id begins so.
    """
    if (Path(reference) / SweepFolder.FILE).is_file():
        return SweepFolder(Path(reference))
    sweeps = all_sweeps(outputs)
    exact = [each for each in sweeps if reference in (each.path.name, each.mlflow_run_id)]
    named = [each for each in sweeps if _experiment(each) == reference]
    if exact or named:
        return (exact or named)[-1]
    found = [each for each in sweeps if len(reference) >= SHORTEST and begins(each, reference)]
    return found[0] if len(found) == 1 else None


def find_folder(outputs: Path, reference: str) -> RunFolder | SweepFolder:
    """The sweep or the run that is called so. Raises NoSuchRun, also if the ids of both begin so."""
    if sweep := find_sweep(outputs, reference):
        runs = all_runs(outputs) if begins(sweep, reference) else []
        if run := next((run for run in runs if begins(run, reference)), None):
            both = f"prefix of a sweep ({sweep.path.name}) and of a run ({run.path.name})"
            raise NoSuchRun(f"{reference}: {both}; more of the id says which")
        return sweep
    try:
        return find_run(outputs, reference)
    except NoSuchRun as error:
        raise NoSuchRun(f"{error}, `microgpt sweeps` the sweeps") from error


def _experiment(sweep: SweepFolder) -> str | None:
    try:
        return str(sweep.info.get("experiment") or "") or None
    except BadRecord:
        return None
