"""One run, from its configuration to its end."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from microgpt.build import ConfigError, Parts, build, part
from microgpt.console import complain, out, summary, watcher
from microgpt.core.events import Diverged
from microgpt.run.folder import FAILED, FINISHED, RUNNING, STOPPED, RunFolder, find_run
from microgpt.run.identity import (
    fingerprint,
    git_state,
    leaves,
    parameters_sha256,
    signature,
    source,
)

OK, RUN_FAILED, WRONG_INPUT = 0, 1, 2
MAY_CHANGE = ("resume", "progress", "trainer.stop_after", "tracking")  # when a run is resumed


def train(cfg: DictConfig, folder: Path, overrides: Sequence[str]) -> int:
    """Train what `cfg` says, in `folder`, or go on with the run that `cfg.resume` names.

    Returns an exit code. Raises ConfigError, NoSuchRun and BusyRun before anything is written.
    """
    if cfg.resume is not None:
        return resume(cfg, overrides)
    parts = build(cfg)
    tracking = part(parts.config, "tracking")
    run = RunFolder(folder)
    with run.locked():
        facts = identity(parts)
        git = git_state(Path(__file__).parent)
        name = run_name(overrides)
        now = time.time()
        run.create(parts.config, parts.documents, git, name=name, begun=now, **facts)
        return go(parts, run, tracking)


def resume(cfg: DictConfig, overrides: Sequence[str]) -> int:
    """Go on with a run from its last checkpoint, by its own configuration."""
    outputs = Path(cfg.paths.outputs)
    run = find_run(outputs, str(cfg.resume))
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key not in MAY_CHANGE and not key.startswith("tracking."):
            allowed = ", ".join(MAY_CHANGE[1:])
            raise ConfigError(f"{override}: a resumed run keeps its own; only {allowed} may change")
    if run.info["status"] == FINISHED:
        out.print(f"run {run.info['id']} is finished: nothing to resume")
        return OK
    own = OmegaConf.create(run.config)
    own.trainer.stop_after, own.progress = cfg.trainer.stop_after, cfg.progress
    own.paths = cfg.paths
    if any(override.startswith("tracking") for override in overrides):
        own.tracking = cfg.tracking
    with run.locked():
        parts = build(own)
        facts = identity(parts)
        if facts["data"]["digest"] != run.info["data"]["digest"]:
            raise ConfigError(f"data: {run.path} was trained on other documents")
        tracking = part(parts.config, "tracking")
        state = run.last_checkpoint()
        if state is not None:
            parts.trainer.restore(state)
        run.rewind(parts.trainer.step)
        run.set_config(parts.config)
        run.update(**facts, stopped_at=None, failed_at=None, reason=None)
        out.print(f"run {run.info['id']} goes on after step {parts.trainer.step}")
        return go(parts, run, tracking)


def go(parts: Parts, run: RunFolder, tracking: Any) -> int:
    """Train, keep and track; returns an exit code. The folder's status is right however it ends."""
    trainer = parts.trainer
    run.update(status=RUNNING, ended=None)
    outputs = Path(parts.config["paths"]["outputs"])
    tracking.start(run, outputs)
    watch = watcher(parts.config["progress"], trainer.step, trainer.last_step)
    trainer.callbacks += [run, watch]
    ending: dict[str, Any] = {"status": FAILED, "reason": "the process broke off"}
    try:
        with interruptible(trainer) as caught, watch:
            trainer.run()
        ending = {"status": FINISHED if trainer.step == trainer.num_steps else STOPPED}
        if ending["status"] == STOPPED:
            ending["stopped_at"] = f"step {trainer.step} of {trainer.num_steps}"
        ending["parameters_sha256"] = parameters_sha256(trainer.engine.flat(trainer.weights))
    except Diverged as error:
        ending = {"status": FAILED, "failed_at": error.step, "reason": error.reason}
    except BaseException as error:
        ending["reason"] = f"{type(error).__name__}: {error}"
        raise
    finally:
        run.update(**ending, ended=time.time())
        problem = tracking.finish()
    return report(run, caught, problem)


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
    drawn = samples.read_text(encoding="utf-8").splitlines() if samples.exists() else []
    summary(run.metrics(), drawn)
    out.print(f"run    {info['id']}  in {shown}")
    if problem:
        complain(f"not all is in MLflow yet ({problem}); later: microgpt sync {info['id']}")
    elif "mlflow_run_id" in info:
        out.print(f"MLflow {info['mlflow_run_id']}  to look: microgpt ui")
    if caught:
        return 128 + caught[0]
    return RUN_FAILED if info["status"] == FAILED else OK


def identity(parts: Parts) -> dict[str, Any]:
    """What is known of a run before its first step."""
    classes = {k: v for k, v in leaves(parts.config).items() if k.endswith("_target_")}
    used = [v for k, v in classes.items() if not k.startswith("tracking")]
    engine = parts.trainer.engine
    weights = parts.trainer.model.shapes().values()
    return {
        "signature": signature(parts.config, parts.data["digest"]),
        "source": source([*(name.rpartition(".")[0] for name in used), Diverged.__module__]),
        "fingerprint": fingerprint(type(engine).__name__, engine.depends_on()),
        "data": parts.data,
        "n_params": sum(rows * columns for rows, columns in weights),
        "num_steps": parts.trainer.num_steps,
        "description": parts.config["description"],
    }


def run_name(overrides: Sequence[str]) -> str:
    """What differs from the defaults: `n_head=4 lr=0.01`."""
    return " ".join(map(_short, overrides)) or "default"


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


@contextmanager
def interruptible(trainer: Any) -> Iterator[list[int]]:
    """SIGINT and SIGTERM end the run after the step under way; a second one ends it at once."""
    caught: list[int] = []

    def handle(number: int, _: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        trainer.interrupt()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
