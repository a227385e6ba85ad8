"""`microgpt fork RUN --at-step N key=value ...`: continues from a run's exact state, with changes."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from omegaconf import OmegaConf

from microgpt.ablation.records.record import folder_of
from microgpt.ablation.reproduce.replay import ROWS, Parted, Witnesses, figures_of, witnesses
from microgpt.build import Parts, build, part
from microgpt.console import out
from microgpt.core.check import BadValue
from microgpt.core.events import Checkpointed, Diverged, Event
from microgpt.core.trainer import Trainer
from microgpt.core.weight import Weight
from microgpt.one_run import train_and_report
from microgpt.override import overridden
from microgpt.run.checkpoint import step_of, write_checkpoint
from microgpt.run.folder import RunFolder
from microgpt.run.reading import read_bytes
from microgpt.run.record import COPYING, FINISHED
from microgpt.run.state import last_state
from microgpt.run.unborn import discard, sweep_up
from microgpt.sample import rebuild
from microgpt.syntax import key_and_value
from microgpt.terminal import ConfigError
from microgpt.train import code_of, identity, run_name
from microgpt.train import create as create_run
from microgpt.trust import OURS_ALONE, Trust, replayed


def fork(
    reference: str,
    step: int,
    words: Sequence[str],
    uri: str | None,
    outputs: Path,
    trust: Trust = OURS_ALONE,
) -> int:
    """Trains a new run that equals `reference` up to step `step` and continues with the overrides `words`.

    Returns an exit code. Raises ConfigError, BadValue and NoSuchRun before anything is written.
    """
    with folder_of(reference, uri, outputs) as parent:
        config = overridden(replayed(parent.config, trust), words)
        config["resume"] = config["sweep"] = None
        config["paths"]["outputs"] = str(outputs.absolute())
        if uri is not None and "uri" in config["tracking"]:
            config["tracking"]["uri"] = uri
        check_step(parent, step)
        before = rebuild(parent, trust)
        parts = built(config, parent, {key_and_value(word)[0] for word in words})
        check_fit(parts, before, step)
        state = state_at(parent, before.trainer, step)
        parts.trainer.restore(state)
        tracking = part(parts.config, "tracking")
        sweep_up(outputs)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid4().hex[:6]}"
        run = RunFolder(outputs / "runs" / name)
        try:
            with run.locked():
                begin = partial(create, run, parts, parent, state, words)
                return train_and_report(parts, run, tracking, begin)
        finally:
            discard(run.path)


def check_step(parent: RunFolder, step: int) -> None:
    """Raises BadValue if the parent did not reach that step, or branched off after it."""
    info = parent.info
    steps = [int(row["step"]) for row in parent.metrics()[-1:]]
    steps += filter(None, map(step_of, parent.checkpoints()[:1]))
    steps += [int(info["num_steps"])] if info["status"] == FINISHED else []
    reached, origin = max(steps, default=0), info.get("fork", {})
    if not 0 <= step <= reached:
        raise BadValue("at-step", step, f"must be a step of the run, from 0 to {reached}")
    if step < origin.get("step", 0):
        allowed = (
            f"the run branched off later, at {origin['step']}; fork its parent {origin['run']}"
        )
        raise BadValue("at-step", step, allowed)


def state_at(parent: RunFolder, trainer: Trainer, step: int) -> Checkpointed:
    """The parent's state after `step` steps, trained from the latest checkpoint before if necessary.

    Raises ConfigError if the steps in between cannot be reproduced, and BadRecord.
    """
    before = last_state(parent, trainer, step)
    if before is not None and before.step == step:
        return before
    if before is not None:
        trainer.restore(before)
    if trainer.step < step:
        out.print(f"the parent's steps {trainer.step + 1} to {step} are trained again")
    told = witnesses(parent.metrics(), {}).said
    witness = Witnesses({ROWS: told[ROWS]})  # the folder is authoritative
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


def _lost(parent: RunFolder, error: Exception) -> str:
    """The message that a state cannot be reproduced, with the checkpoints that exist."""
    kept = ", ".join(str(step_of(file)) for file in reversed(parent.checkpoints()))
    there = f"there are checkpoints at {kept}" if kept else "it kept none"
    return f"the run trained again {error}, unlike its record; {there}"


def built(config: dict[str, Any], parent: RunFolder, given: set[str]) -> Parts:
    """Builds the fork's configuration, on the parent's documents unless it names others."""
    own = OmegaConf.create(config)
    if given & {"data", "data.path"}:
        return build(own)
    parts = build(own, parent.documents)
    if parts.data["digest"] != parent.info["data"].get("digest"):
        raise ConfigError("data: the run's documents are gone; name them with data.path=FILE")
    parts.data["name"] = parent.info["data"]["name"]
    return parts


def check_fit(parts: Parts, before: Parts, step: int) -> None:
    """Raises ConfigError if the parent's state does not fit the changed configuration."""
    trainer, old = parts.trainer, before.trainer
    if trainer.corpus.tokenizer.characters != old.corpus.tokenizer.characters:
        raise ConfigError("data: has other characters than the run's vocabulary")
    shapes, kept = trainer.shapes, old.shapes
    for name in {**kept, **shapes}:
        if shapes.get(name) != kept.get(name):
            both = [_shape(facts.get(name)) for facts in (shapes, kept)]
            raise ConfigError(f"model: {name} would be {both[0]}, but is {both[1]} in the state")
    slots = [", ".join(sorted(each.optimizer.state)) or "nothing" for each in (trainer, old)]
    if slots[0] != slots[1]:
        raise ConfigError(
            f"optimizer: keeps {slots[0]} for each weight, but the state has {slots[1]}"
        )
    if trainer.averaged and not old.averaged:
        raise ConfigError(
            f"trainer.average={trainer.average}: the state has no average to go on with"
        )
    if missing := sorted(trainer.streams.state().keys() - old.streams.state().keys()):
        raise ConfigError(f"streams: the state has no generator for {', '.join(missing)}")
    if step > trainer.last_step:
        key = "stop_after" if trainer.last_step < trainer.num_steps else "num_steps"
        allowed = f"must be at least {step}, where the fork begins"
        raise ConfigError(f"trainer.{key}={trainer.last_step}: {allowed}")


def _shape(weight: Weight | None) -> str:
    return f"[{weight.n_out}][{weight.n_in}] ({weight.role})" if weight else "nothing"


def create(
    run: RunFolder, parts: Parts, parent: RunFolder, state: Checkpointed, words: Sequence[str]
) -> None:
    """Makes the fork's folder, with the parent's records and state and their origin, and says so."""
    before = parent.info
    origin: Mapping[str, Any] = {
        "run": before["id"],
        "mlflow": parent.mlflow_run_id,
        "signature": before["signature"],
        "step": state.step,
        "overrides": " ".join(words),
        "fork": before.get("fork"),  # the parent's own origin, if it is a fork
    }
    facts: dict[str, Any] = {"fork": origin}
    source = code_of(parts.config)["source"]
    if state.step and source != before["source"]:
        facts["source"] = f"{before['source']} to step {state.step}, then {source}"
    (run.path / COPYING).touch()
    (run.path / "checkpoints").mkdir(parents=True)
    file = run.path / f"checkpoints/step-{state.step}.safetensors"
    write_checkpoint(file, state, identity(parts, origin)["signature"])
    ends = [end for row, end in parent.metrics_from(0) if row["step"] <= state.step]
    content = read_bytes(parent.metrics_path)[: max(ends, default=0)]
    run.write("metrics.jsonl", content.decode())
    changed = f" {run_name(words)}" if words else ""
    name = f"{before['name']} from step {state.step}{changed}"
    create_run(run, parts, name=name, **facts)
    (run.path / COPYING).unlink()
    out.print(f"run {run.path.name} branches off {before['id']} after step {state.step}")
