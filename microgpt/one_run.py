"""Trains one run: records it, tracks it, and reports on the terminal."""

import shlex
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from microgpt.build import Parts
from microgpt.console import out, summary, watcher
from microgpt.core.events import Callback, Diverged
from microgpt.core.trainer import Trainer
from microgpt.run.folder import RunFolder
from microgpt.run.held_out import HELD_OUT, measure, write_held_out
from microgpt.run.identity import parameters_sha256
from microgpt.run.kept import Kept
from microgpt.run.record import FAILED, FINISHED, STOPPED
from microgpt.secret import blackened
from microgpt.signals import Interrupted, handled, interrupt, interruptible
from microgpt.terminal import OK, RUN_FAILED, carried, complain, first_line

TRACEBACK = "traceback.txt"  # of a run that raised an unexpected exception


def train_and_report(parts: Parts, run: RunFolder, tracking: Any, begin: Callable[[], None]) -> int:
    """Trains with progress on the terminal, then reports the result; returns an exit code.

    begin  makes the run's folder, or brings it to the run's last checkpoint; from here on SIGINT and
           SIGTERM stop the run, whose state is kept
    """
    trainer = parts.trainer
    caught: list[int] = []
    with interruptible(caught, trainer.interrupt):
        begin()
        watch = watcher(parts.config["progress"], trainer.step, trainer.last_step)
        try:
            with watch:
                train_recorded(parts, run, tracking, watch)
        except BrokenPipeError:
            raise
        except OSError as error:  # such as a full disk: run.json could not be written either
            what = f"run {run.path.name} failed at step {trainer.step}: {first_line(error)}"
            complain(f"{what}; go on: microgpt train resume={run.path.name}")
            return RUN_FAILED
        finally:
            problem = finish(tracking, caught)
        return report(run, caught, problem, tracking.look())


def train_recorded(parts: Parts, run: RunFolder, tracking: Any, *watch: Callback) -> None:
    """Trains, and writes every event to the run's folder and the store.

    The folder's status is updated on any exception. Raises Deleted if files of the folder are gone at the
    end; without its run.json nothing is written to what is left of it.
    """
    (run.path / TRACEBACK).unlink(missing_ok=True)
    trainer, kept = parts.trainer, Kept(run)
    trainer.callbacks += [run, kept, *watch]
    ending: dict[str, Any] = {}
    try:
        with kept.checked():
            tracking.start(run, Path(parts.config["paths"]["outputs"]))
            finished = trainer.run()
            if finished and trainer.corpus.split.test:
                write_held_out(run.path / HELD_OUT, measure(trainer))
            ending = outcome(trainer, finished)
    except Diverged as error:
        ending = {"status": FAILED, "failed_at": error.step, "reason": error.reason}
    except KeyboardInterrupt:  # the second signal
        place = f"step {trainer.kept} of {trainer.num_steps}"  # an update may be incomplete
        ending = {"status": STOPPED, "stopped_at": place}
    except BaseException as error:
        ending = {"status": FAILED, "failed_at": trainer.step, "reason": described(error)}
        if run.exists:
            with suppress(OSError):  # such as one of a full disk
                run.write(TRACEBACK, blackened(traceback.format_exc()))
        raise
    finally:
        if run.exists:
            run.update(**ending, ended=time.time())


def described(error: BaseException) -> str:
    """An error's type and message in one line."""
    text = blackened(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def outcome(trainer: Trainer, finished: bool) -> dict[str, Any]:
    """The facts about the end of a training that raised no exception."""
    digest = parameters_sha256(trainer.engine.flat(trainer.weights))
    if finished:
        return {"status": FINISHED, "parameters_sha256": digest}
    place = f"step {trainer.step} of {trainer.num_steps}"
    return {"status": STOPPED, "stopped_at": place, "parameters_sha256": digest}


def finish(tracking: Any, caught: list[int]) -> str | None:
    """Waits until the store has everything; returns the problem, if any. Ctrl-C ends the wait."""
    try:
        with handled(interrupt):
            problem: str | None = tracking.finish()
    except Interrupted as error:
        caught.append(error.number)
        return "interrupted"
    return problem


def report(run: RunFolder, caught: list[int], problem: str | None, look: str | None) -> int:
    """Prints the result of the run, and what shows it; returns an exit code."""
    info = run.info
    shown = str(
        run.path.relative_to(Path.cwd()) if run.path.is_relative_to(Path.cwd()) else run.path
    )
    if info["status"] == FAILED:
        complain(f"run {info['id']} failed at step {info['failed_at']}: {info['reason']}")
    elif info["status"] == STOPPED:
        again = shlex.join(["microgpt", "train", f"resume={info['id']}", *carried()])
        out.print(f"stopped after {info['stopped_at']}; go on: {again}", markup=False)
    samples = run.path / "samples.txt"  # as they are written: a line each
    drawn = samples.read_text(encoding="utf-8").split("\n")[:-1] if samples.exists() else []
    summary(run.metrics(), drawn)
    out.print(f"run    {info['id']}  in {shown}", markup=False)
    if problem:
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync {info['id']}")
    elif look:
        out.print(f"look   {look}", markup=False)
    if caught:
        return 128 + caught[0]
    return RUN_FAILED if info["status"] == FAILED else OK
