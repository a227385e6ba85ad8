"""One job of a sweep: brings its run folder to an end, from wherever it stands."""

import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from microgpt.build import Parts, built, part, resolve
from microgpt.core.trainer import Trainer
from microgpt.guard import expected
from microgpt.one_run import TRACEBACK, described, train_recorded
from microgpt.run.folder import RunFolder
from microgpt.run.identity import signature
from microgpt.run.kept import Deleted
from microgpt.run.reading import BadRecord
from microgpt.run.record import FAILED, FINISHED, Busy
from microgpt.run.sweep import sweep_folder
from microgpt.run.unborn import claim, discard
from microgpt.secret import blackened
from microgpt.signals import Interrupted, interruptible
from microgpt.terminal import OK, RUN_FAILED, WRONG_INPUT, ConfigError
from microgpt.train import check_split, code_of, create, restart, train

FOREVER = float("inf")
COMBINED = ("model", "optimizer", "schedule", "loss", "trainer", "sampling")
DATA_KEPT = 4  # of the jobs before, in this process
under_way: list[Trainer] = []  # in this process
documents: dict[str, list[str]] = {}  # by their digest, those used last at the end
# Kept, since it reads its file when that has changed, and not for each job.
known_sweep = lru_cache(1)(sweep_folder)


class Refused(ConfigError):
    """A combination that makes no sense: its parts cannot be built, here or elsewhere."""


@dataclass(frozen=True)
class Assignment:
    """All that is to be known of a job to do it, as plain values."""

    sweep: str  # id of the sweep
    facts: Mapping[str, Any]  # what the sweep's folder keeps of the job
    config: dict[str, Any]  # resolved

    @property
    def outputs(self) -> Path:
        """Where the run's folder lies."""
        return Path(self.config["paths"]["outputs"]).absolute()

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self.outputs / "runs" / self.facts["run"])


def work(cfg: DictConfig, folder: Path) -> int | None:
    """Do the job whose run belongs into `folder`, as a launcher of Hydra's asks for it."""
    config = resolve(cfg)
    sweep = known_sweep(Path(config["paths"]["outputs"]), config["sweep"])
    try:
        facts = sweep.job(folder.name)
    except BadRecord:  # `conduct` says that the sweep is gone
        return WRONG_INPUT
    return do(Assignment(config["sweep"], facts, config))


def asked(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> float:
    """Train a run in `folder` for another sweeper than ours; returns its last validation loss.

    Raises ConfigError for whatever prevents it, KeyboardInterrupt after an interrupt.
    """
    cfg.progress = False  # others are at work beside it
    claim(folder)
    try:
        if cfg.resume is not None:
            raise ConfigError(f"resume={cfg.resume}: goes on with one run, without -m")
        ended = train(cfg, folder, overrides)
    except Exception as error:
        line, _ = expected(error)
        raise ConfigError(line or described(error)) from error
    finally:
        discard(folder)
    if ended.interrupted:
        raise KeyboardInterrupt
    run = RunFolder(folder)
    if ended.code:
        raise ConfigError(f"run {folder.name} has failed: {run.info['reason']}")
    last = run.metrics()[-1]
    return last["val/loss"] if "val/loss" in last else last["train/loss"]


def do(job: Assignment, is_over: Callable[[], bool] = lambda: False) -> int | None:
    """Do a job; returns an exit code, None if it was interrupted.

    Another process that is at the same job is waited for, unless the sweep `is_over`: then there is
    nothing left to do.
    """
    run = job.run
    try:
        with run.locked(FOREVER, is_over):
            return _done(job, run)
    except Busy:
        return None
    except BadRecord:  # nothing can be recorded in it; who watches the folders names it
        return WRONG_INPUT


def _done(job: Assignment, run: RunFolder) -> int | None:
    """Does a job whose folder is held. Raises BadRecord."""
    if run.exists:
        run.update(**membership(job.sweep, job.facts, run))
    if run.exists and run.info["status"] == FINISHED:
        return OK
    begun = time.time()
    try:
        return _train(job, run)
    except (ConfigError, BadRecord) as error:
        record_failure(job, str(error), refused=isinstance(error, Refused))
        return WRONG_INPUT
    except Deleted as error:
        if not run.exists:
            record_failure(job, str(error))
        return RUN_FAILED
    except Exception as error:
        if not run.exists or run.ended < begun:  # it failed before its first step
            run.write(TRACEBACK, blackened(traceback.format_exc()))
            record_failure(job, described(error))
        return RUN_FAILED


def interrupt() -> None:
    """Stop the runs that are under way in this process, and keep their state."""
    for trainer in list(under_way):
        trainer.interrupt()


def _train(job: Assignment, run: RunFolder) -> int | None:
    parts = _built(job)
    tracking = part(parts.config, "tracking")
    check_code(parts, job.facts)
    if run.exists and "n_params" in run.info:
        restart(run, parts)
    else:
        check_split(parts)
        create(run, parts, **membership(job.sweep, job.facts, run))
    caught: list[int] = []
    under_way.append(parts.trainer)
    try:
        with interruptible(caught, parts.trainer.interrupt):
            train_recorded(parts, run, tracking)
    finally:
        under_way.remove(parts.trainer)
    if caught:  # in a process of its own, where no launcher waits for an answer
        raise Interrupted(caught[0])
    return {FAILED: RUN_FAILED, FINISHED: OK}.get(run.info["status"])


def _built(job: Assignment) -> Parts:
    """The parts of a job, whose documents are read only if no job before had the same.

    Raises Refused, or ConfigError for what is no matter of the combination, such as a missing file.
    """
    try:
        parts = built(job.config, documents.pop(job.facts["data"], None))
    except ConfigError as error:
        group = re.split("[.=:]", str(error))[0]
        may_come = isinstance(error.__cause__, ImportError)  # a package that is not installed yet
        raise Refused(str(error)) if group in COMBINED and not may_come else error from None
    documents[parts.data["digest"]] = parts.documents
    while len(documents) > DATA_KEPT:
        del documents[next(iter(documents))]
    return parts


def check_code(parts: Parts, job: Mapping[str, Any]) -> None:
    """Refuse a process that would do another job: it has loaded code that was edited since."""
    arithmetic = parts.trainer.engine.arithmetic
    asked = signature(parts.config, parts.data["digest"], arithmetic)
    mine = {"signature": asked, **code_of(parts.config)}
    if other := [key for key in ("signature", "source") if mine[key] != job[key]]:
        raise ConfigError(f"{' and '.join(other)}: not the sweep's; restart this worker")


def membership(sweep: str, job: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    """What a run knows of the sweeps that it belongs to; the first one named it."""
    before = run.info if run.exists else {}
    tags = {tag: str(value) for tag, value in job["tags"].items()}
    return {
        "name": before.get("name", job["name"]),
        "swept": tags | before.get("swept", {}),
        "sweeps": before.get("sweeps", {}) | {sweep: job["arm"]},
    }


def record_failure(job: Assignment, reason: str, refused: bool = False) -> None:
    """A run that could not begin, or whose process died: failed, with the reason.

    `refused`: it will never begin, and is not counted among those that failed.
    """
    run, config, failed_at = job.run, job.config, 0
    if not run.exists:
        facts = {key: job.facts[key] for key in ("signature", "source")}
        facts |= {"begun": time.time(), "git": {}, "fingerprint": {}, "data": {}}
        facts |= {"num_steps": config["trainer"]["num_steps"], "failed_at": 0}
        run.create(config, [], "", **facts, **membership(job.sweep, job.facts, run))
    with suppress(BadRecord):  # then they may be the reason
        failed_at = next((int(row["step"]) for row in reversed(run.metrics())), 0)
    ending = {"reason": reason, "refused": refused, "failed_at": failed_at, "ended": time.time()}
    run.update(status=FAILED, **ending)
    tracking = part(config, "tracking")
    tracking.start(run, Path(config["paths"]["outputs"]))
