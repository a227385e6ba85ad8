"""The state that a run goes on from: that of its latest whole checkpoint, checked against the run."""

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from microgpt.core.check import BadValue
from microgpt.core.events import Checkpointed
from microgpt.core.keeping import Average, Best
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import WITHOUT, BadCheckpoint, read_checkpoint, step_of
from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord
from microgpt.terminal import carried, complain

WORDS = 624  # of a generator's state; behind them the position, and perhaps a number to come


def check_kept(run: RunFolder, reference: str) -> list[Path]:
    """A run's checkpoints. Raises BadValue if it has none."""
    if not (kept := run.checkpoints()):
        problem = "must have a checkpoint, but has none"
        if run.config["trainer"].get("checkpoint_every") == 0:
            change = f"trainer.checkpoint_every={run.info['num_steps']}"
            again = ["microgpt", "fork", run.info["id"], "--at-step", "0", change, *carried()]
            problem += ": it was trained with trainer.checkpoint_every=0; the same with its last: "
            problem += shlex.join(again)
        raise BadValue("RUN", reference, problem)
    return kept


def last_state(run: RunFolder, trainer: Trainer, to: int | None = None) -> Checkpointed | None:
    """The state in the latest whole checkpoint, up to step `to` if given; None if there is none.

    trainer  the run's, before its first step

    A damaged checkpoint is named on standard error and passed over: from the one before it, the steps
    in between give the same numbers again. Raises BadCheckpoint or Foreign for a whole one that is not
    of this run, and BadRecord if the state that a fork began with is gone.
    """
    damaged: list[BadCheckpoint] = []
    found = None
    for file in run.checkpoints():
        if to is not None and (step_of(file) or 0) > to:
            continue
        try:
            found = read_checkpoint(file, run.signatures)
        except BadCheckpoint as error:
            damaged.append(error)
            continue
        check_fits(file, found, trainer)
        break
    instead = f"step-{found.step} is taken instead" if found else "no other is whole"
    for each in damaged:
        complain(f"{each}; {instead}")
    if found is None and "fork" in run.info:
        raise BadRecord(run.path / "checkpoints", "the state that the run began with is gone")
    return found


def check_fits(file: Path, state: Checkpointed, trainer: Trainer) -> None:
    """Raises BadCheckpoint unless the state in `file` may be one of this run."""
    if problem := next(_problems(file, state, trainer), None):
        raise BadCheckpoint(file, f"{problem}: {WITHOUT}")


def check_finite(run: RunFolder, state: Checkpointed) -> None:
    """Raises BadCheckpoint if a weight is not finite, as after an update that diverged."""
    for name, flat in state.weights.items():
        if not all(map(math.isfinite, flat)):
            file = run.path / f"checkpoints/step-{state.step}.safetensors"
            raise BadCheckpoint(
                file, f"{name} is not finite, as an update diverged: it gives no samples"
            )


def _problems(file: Path, state: Checkpointed, trainer: Trainer) -> Iterator[str]:
    """What shows that a state is not of this run."""
    if state.step != step_of(file):
        yield f"it says step {state.step}"
    if not 0 <= state.step <= trainer.num_steps:
        yield f"step {state.step} is not one of 0 to {trainer.num_steps}"
    if not 0 <= state.seconds < math.inf:
        yield f"its training took {state.seconds} seconds"
    shapes = {name: (weight.n_out, weight.n_in) for name, weight in trainer.shapes.items()}
    for name in {**shapes, **state.shapes}:
        here, wanted = state.shapes.get(name), shapes.get(name)
        if here != wanted:
            yield f"{name} is {_shown(here)}, but must be {_shown(wanted)}"
    slots = {(slot, name) for slot, own in trainer.optimizer.state.items() for name in own}
    slots |= {(Average.SLOT, name) for name in shapes if trainer.averaged}
    slots |= {(Best.SLOT, name) for name in shapes if trainer.best and state.best}
    there = {(slot, name) for slot, own in state.slots.items() for name in own}
    for slot, name in sorted(slots ^ there):
        missing = (slot, name) in slots
        yield f"the slot {slot} of {name} {'is missing' if missing else 'has no use'}"
    for name in sorted(trainer.streams.state().keys() - state.streams.keys()):
        yield f"the generator {name} is missing"
    for name, words in state.streams.items():
        if not _is_generator(words):
            yield f"the generator {name} has no state of a Mersenne Twister"


def _shown(shape: tuple[int, int] | None) -> str:
    return "{} x {}".format(*shape) if shape else "not there"


def _is_generator(words: Sequence[int]) -> bool:
    if len(words) not in (WORDS + 1, WORDS + 2):
        return False
    return all(0 <= word < 2**32 for word in words[:WORDS]) and 0 <= words[WORDS] <= WORDS
