"""`microgpt fork RUN --at-step N key=value ...`: go on from a run's exact state, with changes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import OmegaConf

import microgpt
from microgpt.ablation.record import opened
from microgpt.ablation.replay import ROWS, Parted, Witnesses, figures_of, witnesses
from microgpt.build import ConfigError, Parts, build, part
from microgpt.console import out
from microgpt.core.check import BadValue
from microgpt.core.events import Checkpointed, Diverged, Event
from microgpt.override import overridden
from microgpt.run.checkpoint import BadCheckpoint, read_checkpoint, write_checkpoint
from microgpt.run.folder import FINISHED, NoSuchRun, RunFolder, find_run
from microgpt.run.identity import git_state
from microgpt.sample import rebuild
from microgpt.train import go, identity, key_and_value, run_name


def fork(reference: str, step: int, words: Sequence[str], uri: str | None, outputs: Path) -> int:
    """A new run, which is `reference` to step `step` and goes on with the changes `words`.

    Returns an exit code. Raises ConfigError, BadValue and NoSuchRun before anything is written.
    """
    with found(reference, uri, outputs) as parent:
        config = overridden(parent.config, words)
        config["resume"], config["paths"]["outputs"] = None, str(outputs.absolute())
        if uri is not None and "uri" in config["tracking"]:
            config["tracking"]["uri"] = uri
        state = state_at(parent, step)
        parts = built(config, parent, {key_and_value(word)[0] for word in words})
        check_fit(parts, state, parent)
        parts.trainer.restore(state)
        tracking = part(parts.config, "tracking")
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
        run = RunFolder(outputs / "runs" / name)
        with run.locked():
            create(run, parts, parent, state, words)
            out.print(f"run {name} branches off {parent.info['id']} after step {step}")
            return go(parts, run, tracking)


@contextmanager
def found(reference: str, uri: str | None, outputs: Path) -> Iterator[RunFolder]:
    """The run's folder, or where there is none, the copy of it that the store has."""
    try:
        folder = find_run(outputs, reference)
    except NoSuchRun:
        with opened(reference, uri, outputs) as record:
            folder = record.folder
            if record.run.info.run_id != folder.mlflow_run_id:
                folder.mlflow_run_id = record.run.info.run_id
            yield folder
    else:
        yield folder


def state_at(parent: RunFolder, step: int) -> Checkpointed:
    """The parent's state after `step` steps: its checkpoint, or the one before trained forward.

    Raises BadValue where the parent was never there, ConfigError where it cannot be trained again.
    """
    reached = _reached(parent)
    if not 0 <= step <= reached:
        raise BadValue("at-step", step, f"must be a step of the run, from 0 to {reached}")
    before = _checkpoint_before(parent, step)
    if before is not None and before.step == step:
        return before
    trainer = rebuild(parent).trainer
    if before is not None:
        trainer.restore(before)
    if trainer.step < step:
        out.print(f"the parent's steps {trainer.step + 1} to {step} are trained again")
    told = witnesses(parent.metrics(), {}).said
    witness = Witnesses({ROWS: told[ROWS]})  # the folder is the truth about a run
    try:
        while trainer.step < step:
            done = trainer.train_step()
            if done.metrics:
                witness.check(done.step, figures_of(done.metrics))
    except (Parted, Diverged) as error:
        raise ConfigError(f"at-step={step}: {_lost(parent, error)}") from error
    kept: list[Event] = []
    trainer.callbacks.append(kept.append)
    trainer._keep()
    (state,) = kept
    assert isinstance(state, Checkpointed)
    return state


def _reached(parent: RunFolder) -> int:
    """The last step that the parent has been at."""
    info = parent.info
    steps = [int(row["step"]) for row in parent.metrics()[-1:]]
    steps += [int(file.stem.removeprefix("step-")) for file in parent.checkpoints()[:1]]
    steps += [int(info["num_steps"])] if info["status"] == FINISHED else []
    return max(steps, default=0)


def _checkpoint_before(parent: RunFolder, step: int) -> Checkpointed | None:
    """The latest state at or before `step` that can be read."""
    for file in parent.checkpoints():
        if int(file.stem.removeprefix("step-")) <= step:
            try:
                return read_checkpoint(file)
            except (BadCheckpoint, OSError):
                continue
    return None


def _lost(parent: RunFolder, error: Exception) -> str:
    """Why a state cannot be had, and which can."""
    kept = sorted(int(file.stem.removeprefix("step-")) for file in parent.checkpoints())
    there = f"there are checkpoints at {', '.join(map(str, kept))}" if kept else "it kept none"
    return f"the run trained again {error}, unlike its record; {there}"


def built(config: dict[str, Any], parent: RunFolder, given: set[str]) -> Parts:
    """What the fork's configuration builds, on the parent's documents unless it names others."""
    own = OmegaConf.create(config)
    if given & {"data", "data.path"}:
        return _absolute(build(own))
    try:
        parts = build(own)
        same = parts.data["digest"] == parent.info["data"]["digest"]
    except ConfigError as error:
        if not str(error).startswith("data"):
            raise
        same = False
    documents = parent.path / "documents.txt"
    if not same:
        if not documents.exists():
            raise ConfigError("data: the run's documents are gone; name them with data.path=FILE")
        own.data.path = str(documents)
        parts = build(own)
    parts.data["name"] = parent.info["data"]["name"]
    return _absolute(parts)


def _absolute(parts: Parts) -> Parts:
    """A resume must find the data wherever it is called."""
    if path := parts.config["data"].get("path"):
        parts.config["data"]["path"] = str(Path(path).expanduser().absolute())
    return parts


def check_fit(parts: Parts, state: Checkpointed, parent: RunFolder) -> None:
    """Raises ConfigError where the changed configuration has no use for the state."""
    trainer = parts.trainer
    for name, shape in trainer.model.shapes().items():
        if state.shapes.get(name) != shape:
            old = state.shapes.get(name, "none")
            raise ConfigError(f"model: {name} would be {shape}, but is {old} in the state")
    if extra := sorted(state.shapes.keys() - trainer.model.shapes().keys()):
        raise ConfigError(f"model: has no place for {', '.join(extra)} of the state")
    slots, kept = trainer.optimizer.state.keys(), state.slots.keys()
    if slots != kept:
        needs, has = (", ".join(sorted(names)) or "nothing" for names in (slots, kept))
        raise ConfigError(f"optimizer: keeps {needs} for each weight, but the state has {has}")
    if missing := sorted(trainer.streams.state().keys() - state.streams.keys()):
        raise ConfigError(f"streams: the state has no generator {', '.join(missing)}")
    if parts.data["vocabulary"] != parent.info["data"]["vocabulary"]:
        raise ConfigError(
            "data: has another vocabulary than the run's, which the weights stand for"
        )
    if state.step > trainer.last_step:
        key = "stop_after" if trainer.last_step < trainer.num_steps else "num_steps"
        allowed = f"must be at least {state.step}, where the fork begins"
        raise ConfigError(f"trainer.{key}={trainer.last_step}: {allowed}")


def create(
    run: RunFolder, parts: Parts, parent: RunFolder, state: Checkpointed, words: Sequence[str]
) -> None:
    """The fork's folder: the parent's records and state, and where they are from."""
    before = parent.info
    origin: Mapping[str, Any] = {
        "run": before["id"],
        "mlflow": parent.mlflow_run_id,
        "signature": before["signature"],
        "step": state.step,
        "overrides": " ".join(words),
        "fork": before.get("fork"),  # the parent's own origin, should it have one
    }
    facts = identity(parts, origin)
    if state.step and facts["source"] != before["source"]:
        facts["source"] = f"{before['source']} to step {state.step}, then {facts['source']}"
    git = git_state(Path(microgpt.__file__).parent)
    diff = git.pop("diff", "")
    (run.path / "checkpoints").mkdir(parents=True)
    write_checkpoint(run.path / f"checkpoints/step-{state.step}.safetensors", state)
    ends = [end for row, end in parent.metrics_from(0) if row["step"] <= state.step]
    content = parent.metrics_path.read_bytes()[: max(ends, default=0)]
    run.write("metrics.jsonl", content.decode())
    if parts.config["data"].get("path") == str(parent.path / "documents.txt"):
        parts.config["data"]["path"] = str(run.path / "documents.txt")
    changed = f" {run_name(words)}" if words else ""
    name = f"{before['name']} from step {state.step}{changed}"
    run.create(
        parts.config,
        parts.documents,
        diff,
        name=name,
        begun=time.time(),
        git=git,
        fork=origin,
        **facts,
    )
