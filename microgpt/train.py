"""One run, from its configuration to its end."""

import re
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, TypeAlias

from omegaconf import DictConfig, OmegaConf

from microgpt.build import ConfigError, Parts, build, part, resolve
from microgpt.console import complain, out, summary, watcher
from microgpt.core.events import Callback, Diverged
from microgpt.core.trainer import Trainer
from microgpt.run.folder import OUTCOME, RunFolder, find_run
from microgpt.run.identity import fingerprint, git_state, parameters_sha256, signature
from microgpt.run.record import FAILED, FINISHED, RUNNING, STOPPED
from microgpt.run.source import code, modules

OK, RUN_FAILED, WRONG_INPUT = 0, 1, 2
TRACEBACK = "traceback.txt"  # of a run that broke off
MAY_CHANGE = ("progress", "trainer.stop_after", "tracking")  # when a run is resumed
UNNAMED = ("paths", "tracking", "progress", "description")  # not part of a run's name
Overrides: TypeAlias = Sequence[str]


def train(cfg: DictConfig, folder: Path, overrides: Overrides) -> int:
    """Train what `cfg` says, in `folder`, or go on with the run that `cfg.resume` names.

    Returns an exit code. Raises ConfigError, NoSuchRun and Busy before anything is written.
    """
    if cfg.resume is not None:
        return resume(cfg, overrides)
    parts = build(cfg)
    tracking = part(parts.config, "tracking")
    run = RunFolder(folder)
    with run.locked():
        if run.exists:
            raise ConfigError(f"hydra.run.dir={folder}: holds a run; go on with resume={folder}")
        create(run, parts, name=run_name(overrides))
        return alone(parts, run, tracking)


def create(run: RunFolder, parts: Parts, **facts: Any) -> None:
    """Make the run's folder."""
    config = parts.config
    if path := config["data"].get("path"):  # a resume must find it, wherever it is called
        config["data"]["path"] = str(Path(path).expanduser().absolute())
    config["paths"]["outputs"] = str(Path(config["paths"]["outputs"]).absolute())  # likewise
    git = git_state(Path(__file__).parent)
    diff = git.pop("diff", "")
    facts |= {**dict.fromkeys(OUTCOME), **identity(parts)}
    run.create(config, parts.documents, diff, git=git, begun=time.time(), **facts)


def resume(cfg: DictConfig, overrides: Overrides) -> int:
    """Go on with a run from its last checkpoint, by its own configuration."""
    given = dict(map(key_and_value, overrides))
    # As it was written: Hydra reads the id 20261101 as a number, and 12e45678 as infinity.
    reference = given.get("resume", str(cfg.resume)).strip("'\"")
    run = find_run(Path(cfg.paths.outputs), reference)
    check_resumable(given)
    with run.locked():
        own = own_config(run, cfg, given)
        if run.info["status"] == FINISHED:
            return complete(run, resolve(own))
        parts = build(own, run.documents)
        tracking = part(parts.config, "tracking")
        restart(run, parts)
        out.print(f"run {run.info['id']} goes on after step {parts.trainer.step}")
        return alone(parts, run, tracking)


def complete(run: RunFolder, config: dict[str, Any]) -> int:
    """A finished run: the store gets what it lacks, should the process have died before it was sent."""
    out.print(f"run {run.info['id']} is finished: nothing to resume")
    tracking = part(config, "tracking")
    tracking.start(run, Path(config["paths"]["outputs"]))
    if problem := tracking.finish():
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync {run.info['id']}")
    return OK


def check_resumable(given: Mapping[str, str]) -> None:
    """Refuse the keys that would make it another run. Raises ConfigError."""
    for key, value in given.items():
        known = key in ("resume", "paths.outputs", *MAY_CHANGE) or key.startswith("tracking.")
        if not known:
            problem = f"a resumed run keeps its own; only {', '.join(MAY_CHANGE)} may change"
            raise ConfigError(f"{key}={value}: {problem}")


def own_config(run: RunFolder, cfg: DictConfig, given: Mapping[str, str]) -> DictConfig:
    """The run's configuration, with what a resume may change."""
    own = OmegaConf.create(run.config)
    own.trainer.stop_after = cfg.trainer.stop_after
    if "paths.outputs" in given:
        own.paths.outputs = str(Path(cfg.paths.outputs).absolute())
    if "progress" in given:
        own.progress = cfg.progress
    if "tracking" in given:
        own.tracking = cfg.tracking
    for key in given:
        if key.startswith("tracking."):
            OmegaConf.update(own, key, OmegaConf.select(cfg, key))
    return own


def restart(run: RunFolder, parts: Parts) -> None:
    """Bring the trainer and the folder to the run's last checkpoint. Raises ConfigError."""
    before = run.info
    facts = identity(parts, before.get("fork"))
    if facts["data"]["digest"] != before["data"]["digest"]:
        raise ConfigError(f"data: {run.path} was trained on other documents")
    state = run.last_checkpoint()
    if state is not None:
        parts.trainer.restore(state)
    step = parts.trainer.step
    if step:
        keep_past(facts, before, "source", "the code", step)
        for key in facts["fingerprint"]:
            keep_past(facts["fingerprint"], before["fingerprint"], key, key, step)
    run.rewind(step)
    run.set_config(parts.config)
    run.update(**facts, **dict.fromkeys(OUTCOME), status=RUNNING)


def keep_past(
    facts: dict[str, Any], before: Mapping[str, Any], key: str, name: str, step: int
) -> None:
    """Where something has changed since a run began: say so, and keep what it was up to `step`."""
    past = before.get(key, "unknown")
    if past.rpartition(", then ")[2] != facts[key]:
        complain(f"{name} has changed: after step {step} figures may part from those before")
        facts[key] = f"{past} to step {step}, then {facts[key]}"
    else:
        facts[key] = past


def alone(parts: Parts, run: RunFolder, tracking: Any) -> int:
    """One run, shown while it goes on and reported at its end; returns an exit code."""
    trainer = parts.trainer
    watch = watcher(parts.config["progress"], trainer.step, trainer.last_step)
    caught: list[int] = []
    try:
        with interruptible(trainer, caught), watch:
            go(parts, run, tracking, watch)
    finally:
        problem = finish(tracking, caught)
    return report(run, caught, problem)


def go(parts: Parts, run: RunFolder, tracking: Any, *watch: Callback) -> None:
    """Train, keep and track. The folder's status is right however it ends."""
    trainer = parts.trainer
    trainer.callbacks += [run, *watch]
    (run.path / TRACEBACK).unlink(missing_ok=True)
    ending: dict[str, Any] = {}
    try:
        tracking.start(run, Path(parts.config["paths"]["outputs"]))
        ending = reached(trainer, trainer.run())
    except Diverged as error:
        ending = {"status": FAILED, "failed_at": error.step, "reason": error.reason}
    except KeyboardInterrupt:  # the second signal
        place = f"step {trainer.kept} of {trainer.num_steps}"  # in mid-update, perhaps
        ending = {"status": STOPPED, "stopped_at": place}
    except BaseException as error:
        run.write(TRACEBACK, traceback.format_exc())
        reason = fault(error)
        ending = {"status": FAILED, "failed_at": trainer.step, "reason": reason}
        raise
    finally:
        run.update(**ending, ended=time.time())


def fault(error: BaseException) -> str:
    """An error in a line: what it is, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def reached(trainer: Trainer, finished: bool) -> dict[str, Any]:
    """How a run ended that met no error."""
    digest = parameters_sha256(trainer.engine.flat(trainer.weights))
    if finished:
        return {"status": FINISHED, "parameters_sha256": digest}
    place = f"step {trainer.step} of {trainer.num_steps}"
    return {"status": STOPPED, "stopped_at": place, "parameters_sha256": digest}


def finish(tracking: Any, caught: list[int]) -> str | None:
    """Let the store catch up. Returns what went wrong, if anything did; Ctrl-C ends the waiting."""
    try:
        problem: str | None = tracking.finish()
    except KeyboardInterrupt:
        caught.append(signal.SIGINT)
        return "interrupted"
    return problem


def report(run: RunFolder, caught: list[int], problem: str | None) -> int:
    """Say how the run ended; returns an exit code."""
    info = run.info
    shown = str(
        run.path.relative_to(Path.cwd()) if run.path.is_relative_to(Path.cwd()) else run.path
    )
    if info["status"] == FAILED:
        complain(f"run {info['id']} failed at step {info['failed_at']}: {info['reason']}")
    elif info["status"] == STOPPED:
        out.print(f"stopped after {info['stopped_at']}; go on: microgpt train resume={info['id']}")
    samples = run.path / "samples.txt"
    drawn = samples.read_text(encoding="utf-8").split("\n")[:-1] if samples.exists() else []
    summary(run.metrics(), drawn)
    out.print(f"run    {info['id']}  in {shown}")
    if problem:
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync {info['id']}")
    elif run.mlflow_run_id:
        out.print(f"MLflow {run.mlflow_run_id}  to look: microgpt ui")
    if caught:
        return 128 + caught[0]
    return RUN_FAILED if info["status"] == FAILED else OK


def identity(parts: Parts, fork: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is known of a run before its first step; `fork` says where it branched off, if it did."""
    engine = parts.trainer.engine
    return {
        "signature": signature(parts.config, parts.data["digest"], engine.arithmetic, fork),
        **code_of(parts.config),
        "fingerprint": fingerprint(type(engine).__name__, engine.depends_on()),
        "data": parts.data,
        "n_params": sum(weight.size for weight in parts.trainer.shapes.values()),
        "num_steps": parts.trainer.num_steps,
        "description": parts.config["description"],
    }


def code_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Which code answers a run's question: `source`, its files, the packages that they import."""
    return _code_of(frozenset(modules(config)))


@cache  # a process runs the code that it has loaded, whatever becomes of the files
def _code_of(names: frozenset[str]) -> dict[str, Any]:
    return code(names)


def run_name(overrides: Overrides) -> str:
    """What differs from the defaults: `n_head=4 lr=0.01`."""
    pairs = map(key_and_value, overrides)
    told = [(key, value) for key, value in pairs if key.partition(".")[0] not in UNNAMED]
    last = re.compile("[./]").split
    words = [f"{last(key)[-1]}={value.rpartition('/')[2]}" for key, value in told]
    return " ".join(words)[:200] or "default"


def key_and_value(override: str) -> tuple[str, str]:
    """`+a.b=c` -> `("a.b", "c")`."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, value


@contextmanager
def interruptible(trainer: Trainer, caught: list[int]) -> Iterator[None]:
    """SIGINT and SIGTERM end the run after the step under way; a second one ends it at once.

    Only the main thread gets signals: a worker's thread is stopped by who owns it.
    """
    if current_thread() is not main_thread():
        yield
        return

    def handle(number: int, _: Any) -> None:
        caught.append(number)
        if len(caught) > 1:
            raise KeyboardInterrupt
        trainer.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
