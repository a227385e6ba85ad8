"""`microgpt` from Python: what its commands do, as functions. `import microgpt` has all names of it.

Outputs lie in `MICROGPT_OUTPUTS`, or in `outputs` in the current folder; the store is
`MLFLOW_TRACKING_URI`, or a database in the outputs. `trust` names packages whose classes a run that is
read or resumed may name; `config_dir` adds configurations, and trusts the classes that they name.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from microgpt.api.error import Error, clean
from microgpt.api.frames import runs_frame
from microgpt.api.run import Run, run_of
from microgpt.api.sweep import Sweep
from microgpt.app import parsed, run
from microgpt.console import silent
from microgpt.hints import SWEEPING
from microgpt.run.folder import RunFolder, all_runs, usual_outputs
from microgpt.run.record import Record
from microgpt.run.sweep import SweepFolder
from microgpt.terminal import ConfigError
from microgpt.trust import Trust, trust_of

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Error", "Run", "Sweep", "arms", "curves", "load", "runs", "sweep", "train"]


def load(reference: str | Path, *, trust: Sequence[str] = (), config_dir: str | None = None) -> Run:
    """Loads a run from the outputs, else from the store. Raises Error.

    reference  a run's folder, its id, its MLflow id, a prefix of an id; or `EXPERIMENT/best`, the run of
               its latest sweep with the lowest validation loss; a sweep's id may stand for EXPERIMENT
    """
    with clean():
        return run_of(str(reference), None, usual_outputs(), trust_of(trust, config_dir))


def train(
    overrides: Sequence[str] = (),
    *,
    progress: bool = False,
    trust: Sequence[str] = (),
    config_dir: str | None = None,
) -> Run:
    """Trains a run, as `microgpt train` with these overrides; `resume=RUN` goes on with one.

    A run that fails is returned: its `status` says so. Raises Error for wrong input, KeyboardInterrupt
    after an interrupt, which keeps the state.

    progress  whether to print what the command prints
    """
    folder, trusted = _run([], overrides, progress, trust, config_dir)
    if not isinstance(folder, RunFolder):  # by hydra.mode=MULTIRUN
        raise Error("a sweep has been trained; microgpt.sweep returns it")
    return Run(folder, trusted)


def sweep(
    overrides: Sequence[str],
    *,
    progress: bool = False,
    trust: Sequence[str] = (),
    config_dir: str | None = None,
) -> Sweep:
    """Trains a sweep, as `microgpt train -m` with these overrides; what is finished is skipped.

    Raises as `train`. Runs that failed are in `Sweep.runs`.
    """
    folder, trusted = _run(["-m"], overrides, progress, trust, config_dir)
    if not isinstance(folder, SweepFolder):  # by hydra/sweeper=...
        raise Error("another sweeper has trained; microgpt.runs lists what")
    outputs, uri = folder.path.parent.parent, folder.config["tracking"].get("uri")
    return Sweep(folder.path.name, uri, outputs, trusted)


def runs(sweep: str | None = None, *, trust: Sequence[str] = ()) -> "DataFrame":
    """All runs of the outputs; with the name of an experiment or a sweep's id, the runs of that sweep."""
    with clean():
        if sweep is not None:
            return _stored(sweep, trust_of(trust, None)).runs()
        return runs_frame(all_runs(usual_outputs()))


def curves(sweep: str, *, trust: Sequence[str] = ()) -> "DataFrame":
    """The logged steps of the runs of an experiment's latest sweep, or of the sweep with this id."""
    with clean():
        return _stored(sweep, trust_of(trust, None)).curves()


def arms(sweep: str, *, trust: Sequence[str] = ()) -> "DataFrame":
    """The arms of an experiment's latest sweep, or of the sweep with this id, with their intervals."""
    with clean():
        return _stored(sweep, trust_of(trust, None)).arms()


def _stored(name: str, trust: Trust) -> Sweep:
    return Sweep(name, None, usual_outputs(), trust)


def _run(
    flags: list[str],
    overrides: Sequence[str],
    progress: bool,
    trust: Sequence[str],
    config_dir: str | None,
) -> tuple[Record | None, Trust]:
    """Runs `microgpt train`; returns the folder of what was trained. Raises Error, KeyboardInterrupt."""
    with clean():
        trusted = trust_of(trust, config_dir)
        if isinstance(overrides, str):
            raise ConfigError(f"overrides={overrides}: must be a list, as [{overrides!r}]")
        for word in overrides:
            if word.startswith("-"):
                raise ConfigError(f"{word}: must be an override, as key=value")
        folders = ["--config-dir", config_dir] if config_dir is not None else []
        if any(word.startswith("resume=") for word in overrides):
            flags = [*flags, *(f"--trust={name}" for name in trust)]
        told = SWEEPING.set("call microgpt.sweep")
        try:
            with nullcontext() if progress else silent():
                ended = run(*parsed([*flags, *folders, *overrides]))
        finally:
            SWEEPING.reset(told)
    if ended.interrupted:
        raise KeyboardInterrupt
    return ended.folder, trusted
