"""A finished run that is resumed with more steps, where that is what a longer run would have been."""

import json
import re
from collections.abc import Mapping
from typing import Any

from microgpt.build import Parts
from microgpt.core.trainer import Trainer
from microgpt.run.folder import RunFolder
from microgpt.run.state import last_state
from microgpt.terminal import ConfigError

KEY = "trainer.num_steps"


def steps_asked(given: Mapping[str, str]) -> int | None:
    """The number of steps that a resume asks for; None if it keeps the run's. Raises ConfigError."""
    if KEY not in given:
        return None
    if not given[KEY].isdecimal():
        raise ConfigError(f"{KEY}={given[KEY]}: must be an integer")
    return int(given[KEY])


def check_extended(run: RunFolder, parts: Parts) -> None:
    """Raises ConfigError unless the run's steps are the first of a run as long as `parts` is.

    They are if the schedule gives them the same rates, and nothing was chosen at the end.
    """
    trainer, info = parts.trainer, run.info
    before, after = int(info["num_steps"]), trainer.num_steps
    if after <= before:
        raise ConfigError(f"{KEY}={after}: the run has {before} steps already")
    problem = None
    if info.get("sweeps"):
        problem = "the run is one of a sweep, whose question it answers"
    elif trainer.best:
        problem = "trainer.patience chose the weights of its end"
    elif any(_rate(trainer, step, before) != _rate(trainer, step, after) for step in range(before)):
        problem = "its schedule ends with the run"
    elif (state := last_state(run, trainer)) is None or state.step < before:
        problem = "it has no checkpoint of its last step"
    if problem:
        advice = (
            f"a run that branches off: microgpt fork {info['id']} --at-step {before} {KEY}={after}"
        )
        raise ConfigError(f"{KEY}={after}: {problem}; {advice}")


def lengthened(name: str, steps: int) -> str:
    """The name of a run, when it has so many steps."""
    word = f"num_steps={steps}"
    told, count = re.subn(r"(?<!\S)num_steps=\d+(?!\S)", word, name)
    return told if count else word if name == "default" else f"{name} {word}"


def _rate(trainer: Trainer, step: int, length: int) -> float:
    return trainer.schedule(trainer.optimizer.lr, step, length)


def drop_end(run: RunFolder, trainer: Trainer) -> None:
    """Drops from the last logged step what is logged only at the end of a run, if this is no longer one."""
    rows = run.metrics()
    step = int(rows[-1]["step"]) if rows else 0
    if not rows or step != trainer.step or step >= trainer.num_steps:
        return
    evaluated = bool(trainer.eval_every) and step % trainer.eval_every == 0
    logged = evaluated or (bool(trainer.log_every) and step % trainer.log_every == 0)
    row: dict[str, Any] = {
        key: value
        for key, value in rows[-1].items()
        if not key.startswith("test/") and (evaluated or not key.startswith("val/"))
    }
    if logged and row == rows[-1]:
        return
    run.rewind(step - 1)
    if logged:
        with run.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
