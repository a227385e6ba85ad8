"""Replays random stretches of a run, from one checkpoint in the store to the next, instead of all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from microgpt.ablation.records.record import Record
from microgpt.ablation.reproduce.draw import draw
from microgpt.ablation.reproduce.ending import Ending, ending, unlike
from microgpt.ablation.reproduce.replay import Parted, again, witnesses
from microgpt.ablation.reproduce.verify import Fresh, check_latest, rows_of, watching
from microgpt.build import Parts
from microgpt.console import watcher
from microgpt.core.events import Metrics
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import read_checkpoint, step_of
from microgpt.run.state import check_fits

Stretch = tuple[int, int]  # the steps after which it begins and ends


@dataclass(frozen=True)
class Stretches:
    """`count` stretches, drawn by `seed`; others each time if it is None."""

    count: int
    seed: int | None = None

    def __call__(self, record: Record, parts: Parts, fresh: Fresh) -> str:
        """Replays the stretches; returns what was compared. Raises Parted, Gone, BadRecord."""
        rows = rows_of(record)
        end = ending(record.folder, rows)
        last = end.step or parts.trainer.num_steps
        there = stretches_of(record, last)
        chosen, which = draw(there, self.count, self.seed)
        for stretch in chosen:
            _replay(record, fresh().trainer, rows, stretch, end if stretch[1] == last else None)
        check_latest(record)
        told = ", ".join(f"{first}-{to}" for first, to in chosen)
        return f"{len(chosen)} of {len(there)} stretches between checkpoints, steps {told}{which}"


def stretches_of(record: Record, last: int) -> list[Stretch]:
    """The stretches from each state that the store has, or the beginning, to the next, or the end."""
    found = map(step_of, record.folder.checkpoints())
    first = int(record.folder.info.get("fork", {}).get("step", 0))
    kept = {step for step in found if step is not None and first < step < last}
    return list(pairwise(sorted({first, *kept, last})))


def _replay(
    record: Record, trainer: Trainer, rows: Sequence[Metrics], stretch: Stretch, end: Ending | None
) -> None:
    """Raises Parted unless the steps of a stretch, and what comes after it, are as recorded."""
    first, last = stretch
    if first:
        file = record.folder.path / f"checkpoints/step-{first}.safetensors"
        state = read_checkpoint(file)
        check_fits(file, state, trainer)
        trainer.restore(state)
    witness = witnesses(rows, record.series)
    for who, said in witness.said.items():
        witness.said[who] = {step: told for step, told in said.items() if first < step <= last}
    goal = end or Ending(record.folder, last, cut=True)
    trainer.last_step = min(last, trainer.last_step)
    with watcher(True, first, last) as shown:
        done = again(trainer, watching(record, trainer, witness, goal, shown))
    witness.finish()
    if end:
        end.check(done)
    elif done.reason:
        raise Parted(unlike("the end", "no failure", f"{done.reason} at step {done.failed_at}"))
