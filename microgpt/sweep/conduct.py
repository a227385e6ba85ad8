"""A sweep from its plan to its end: what is done is skipped, what was begun goes on."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from microgpt.build import part
from microgpt.protocol.protocol import frozen
from microgpt.run.folder import RunFolder
from microgpt.run.kept import Deleted
from microgpt.run.reading import BadRecord
from microgpt.run.record import FAILED, FINISHED, RUNNING, STOPPED
from microgpt.run.sweep import SweepFolder, key, sweep_folder
from microgpt.run.unborn import sweep_up
from microgpt.sweep.job import membership
from microgpt.sweep.known import given, store_here
from microgpt.sweep.plan import Job
from microgpt.sweep.sequence import Rounds
from microgpt.sweep.table import tell_begin, tell_end, tell_protocol, watching
from microgpt.sweep.watch import Watch, standing
from microgpt.terminal import OK, RUN_FAILED, Ended
from microgpt.tracking import STATUS, Tracking
from microgpt.train import own_git_state

PATIENCE = 20.0  # seconds that the beginning, and the end, wait for what the store knows
Launch = Callable[[str, Sequence[Job]], int | None]


def conduct(
    facts: Mapping[str, Any],
    identity: Mapping[str, str],
    rounds: Rounds,
    skip: bool,
    prepare: Callable[[int], None] | None,
    launch: Launch,
) -> Ended:
    """Bring the jobs of a sweep to an end. Raises Busy and ConfigError.

    facts     what else is known of the sweep: the `config` that it starts from, its `name`, ...
    identity  its signature and its source
    rounds    its jobs, all at once or more and more
    prepare   begins what takes seconds before so many jobs can be trained, while the store is asked
    launch    trains jobs of a sweep; returns the exit code of an interrupt, None if there was none
    """
    config = facts["config"]
    outputs = Path(config["paths"]["outputs"])
    sweep, mark = sweep_folder(outputs, key(**identity)), ""
    if not skip:
        sweep, mark = anew(sweep)
    tracking = part(config, "tracking")  # first: what it refuses leaves no folder behind
    sweep_up(outputs)
    with sweep.locked():
        before = sweep.protocol if sweep.exists else None
        look: str | None = None
        trained: set[str] = set()
        for number, jobs in enumerate(rounds.of(sweep)):
            own = [replace(job, run=f"{job.run}{mark}") for job in jobs]
            if number:
                sweep.update(jobs=[job.facts for job in own])
            else:
                begin(sweep, **identity, **facts, jobs=[job.facts for job in own])
                tracking.start(sweep, outputs)
            watch = _watch(Watch(sweep, trained), tracking, prepare, here=rounds.looks)
            if not number:
                tell_protocol(before, sweep.protocol, len(watch.skipped) - len(watch.refused()))
                tell_begin(watch, look := tracking.look(), tracking.elsewhere())
            todo = [job for job in own if job.run not in watch.skipped]
            trained |= {job.run for job in todo}
            try:
                with watching(watch, config["progress"]):
                    interrupted = launch(sweep.path.name, todo)
            except BaseException as error:  # no cluster, perhaps: nothing goes on by itself
                end(sweep, tracking, FAILED if isinstance(error, Exception) else STOPPED)
                raise
            failed = bool(watch.unfinished())
            if interrupted or failed:
                break
        status = STOPPED if interrupted else FAILED if failed else FINISHED
        problem, shown = end(sweep, tracking, status)
    tell_end(watch, not interrupted, problem, shown or look, tracking.words())
    return Ended(interrupted or (RUN_FAILED if failed else OK), sweep)


def _watch(
    watch: Watch, tracking: Tracking, prepare: Callable[[int], None] | None, here: bool
) -> Watch:
    """The jobs of a sweep as they stand, without what is finished: `here`, or in the store too."""
    if prepare and (left := len(watch.jobs) - len(watch.skipped)):
        prepare(left)
    stored = {} if here else tracking.stored(PATIENCE)
    watch.skip({name for name, how in stored.values() if how == STATUS[FINISHED]})
    join(watch.sweep, watch.skipped)
    return watch


def end(sweep: SweepFolder, tracking: Tracking, status: str) -> tuple[str | None, str | None]:
    """Records how a sweep ended, and sends what the store lacks.

    Returns what went wrong with the store, if anything did, and what shows the sweep. Raises Deleted.
    """
    if not sweep.exists:
        advice = "the same command trains what is missing"
        raise Deleted(f"{sweep.path}: deleted during the sweep; {advice}")
    sweep.update(status=status, ended=time.time())
    problem, look = tracking.finish(), tracking.look()
    if not problem:
        catch_up(sweep, tracking)
        problem = tracking.finish()
    return problem, look


def begin(sweep: SweepFolder, **facts: Any) -> None:
    """Write what is known of a sweep; one that goes on began when it first did.

    `asked` among the facts is the content of its protocol, which is frozen now unless the sweep knows it.
    Its store is that of its jobs, whatever the environment names when it is sent.
    """
    new: dict[str, Any] = {"begun": time.time(), "uid": uuid4().hex}
    known = sweep.info if sweep.exists else new
    facts |= {key: known[key] for key in ("begun", "uid") if key in known}
    asked, protocols = facts.pop("asked", None), known.get("protocols", [])
    if asked is not None:
        protocols = frozen(protocols, asked, commit())
    facts |= {"protocols": protocols, "protocol": protocols[-1]["digest"] if asked else None}
    facts |= {"config": given(facts["config"], store_here(facts["config"]))}
    sweep.begin(id=sweep.path.name, status=RUNNING, ended=None, **facts)


def commit() -> str | None:
    """The commit of this program, with `-dirty` if files differ from it; None outside a checkout."""
    state = own_git_state()
    dirty = "-dirty" if state.get("dirty") == "true" else ""
    return f"{state['commit']}{dirty}" if "commit" in state else None


def anew(sweep: SweepFolder) -> tuple[SweepFolder, str]:
    """The same sweep with runs of its own, and the mark of their names; it goes on until it is finished."""
    files = sorted(sweep.path.parent.glob(f"{sweep.path.name}-*/{SweepFolder.FILE}"))
    begun = [file.parent.name for file in files if SweepFolder(file.parent).status != FINISHED]
    name = begun[0] if begun else f"{sweep.path.name}-{uuid4().hex[:8]}"
    return SweepFolder(sweep.path.with_name(name)), name.removeprefix(sweep.path.name)


def is_finished(run: RunFolder) -> bool:
    """Whether a run is there and finished."""
    return standing(run).status == FINISHED


def join(sweep: SweepFolder, skipped: set[str]) -> None:
    """Runs that are finished here, perhaps for another sweep, belong to this one too."""
    for job in sweep.jobs:
        run = sweep.run(job)
        if (
            run.path.name in skipped
            and run.exists
            and sweep.path.name not in run.info.get("sweeps", {})
        ):
            with run.locked(PATIENCE):
                run.update(**membership(sweep.path.name, job, run))


def catch_up(sweep: SweepFolder, tracking: Tracking) -> None:
    """Send the runs that the store has otherwise: a worker may have died before it sent them.

    Only what belongs to the folders here counts: other machines may have runs of the same jobs.
    """
    stored = tracking.stored(PATIENCE)
    for run in map(sweep.run, sweep.jobs):
        with suppress(BadRecord):  # a damaged one has been named
            _, there = stored.get(run.mlflow_run_id, ("", ""))
            if run.exists and there != STATUS[run.status]:
                tracking.add(run)
