"""`microgpt verify RUN`: trains a run of a store again and compares it with its record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.ablation.records.record import Record, opened
from microgpt.ablation.reproduce.changes import changes
from microgpt.ablation.reproduce.ending import Ending, ending, unlike
from microgpt.ablation.reproduce.replay import (
    ROWS,
    Difference,
    Parted,
    Witnesses,
    again,
    by_step,
    check_state,
    figures_of,
    same,
    witnesses,
)
from microgpt.build import Parts
from microgpt.console import out, watcher
from microgpt.core.check import BadValue
from microgpt.core.events import Checkpointed, Event, Metrics, Stepped
from microgpt.core.trainer import Trainer
from microgpt.run.checkpoint import read_checkpoint
from microgpt.run.folder import NoSuchRun
from microgpt.run.held_out import HeldOut
from microgpt.run.reading import BadRecord
from microgpt.run.source import modules
from microgpt.run.state import check_fits
from microgpt.sample import rebuild
from microgpt.terminal import ConfigError, complain
from microgpt.train import identity
from microgpt.trust import OURS_ALONE, Trust, Untrusted

EXACT, DIVERGED, CANNOT = 0, 1, 2  # exit codes
Fresh = Callable[[], Parts]  # the same parts once more; raises Gone
Compare = Callable[[Record, Parts, Fresh], str]  # returns what was compared; raises Parted, Gone
PARENT = "the parent's metrics in the store"


class Gone(RuntimeError):
    """A run cannot be trained again; the message says what is missing, and how to get it."""


@dataclass
class Verdict:
    """The result of a verification."""

    difference: Difference | None
    changed: list[str]  # what has changed since the record
    found: str = ""  # what was compared, if it is bit-exact
    held_out: HeldOut | None = None  # the nats of the test documents


def verify_run(
    reference: str,
    uri: str | None,
    outputs: Path,
    data: Path | None,
    trust: Trust = OURS_ALONE,
    compare: Compare | None = None,
) -> int:
    """Verifies a run and prints the verdict; returns an exit code.

    `compare` trains and compares; by default, the whole run. Raises NoSuchRun, BadValue and Untrusted.
    """
    with opened(reference, uri, outputs) as record:
        out.print(f"run {record.name}  {record.run.info.run_name}", markup=False)
        try:
            verdict = judge(record, data, trust, compare or whole)
            if verdict.difference and record.is_under_way():
                raise Gone("it is resumed, or was meanwhile; verify it when it is over")
        except Gone as error:
            complain(f"cannot run again: {error}")
            return CANNOT
    return tell(verdict)


def tell(verdict: Verdict) -> int:
    """Prints a verdict; returns its exit code."""
    if verdict.difference is None:
        out.print(f"bit-exact: {verdict.found}", markup=False)
        for line in verdict.changed:
            out.print(f"  changed since the record: {line}", markup=False)
        return EXACT
    out.print(verdict.difference.verdict, markup=False)
    out.print(f"  {verdict.difference.says}", markup=False)
    if verdict.difference.explained:
        return DIVERGED
    for line in verdict.changed:
        out.print(f"  not as recorded: {line}", markup=False)
    if not verdict.changed:
        out.print("  source, packages and Python are unchanged: the record may have been edited")
    return DIVERGED


def judge(record: Record, data: Path | None, trust: Trust, compare: Compare) -> Verdict:
    """Trains the run again, to the first difference. Raises Gone, BadValue, Untrusted."""
    if record.run.info.status == "RUNNING":
        allowed = "must be over, but is still running, as the store has it; see `microgpt sync`"
        raise BadValue("run", record.run.info.run_id, allowed)
    try:
        info, parts = record.folder.info, _rebuilt(record, data, trust)
    except BadRecord as error:
        raise Gone(f"the store's {_named(error)} {error.problem}") from error
    now = identity(parts, info.get("fork"))
    changed = changes(info, now, modules(parts.config))
    try:
        for text in _contradictions(record, now):
            raise Parted(Difference("the record contradicts itself", text))
        found = compare(record, parts, lambda: _rebuilt(record, data, trust))
    except Parted as parted:
        return Verdict(parted.difference, changed)
    except BadRecord as error:
        found = f"the store's {_named(error)} is damaged"
        return Verdict(Difference(found, f"it {error.problem}", explained=True), changed)
    return Verdict(None, changed, found)


def _named(error: BadRecord) -> str:
    """The damaged file by its name: its folder is a temporary one."""
    return Path(error.file).name


def _rebuilt(record: Record, data: Path | None, trust: Trust) -> Parts:
    """Builds the recorded configuration on the recorded data. Raises Gone, Untrusted."""
    info = record.folder.info
    if not info["data"]:
        raise Gone(f"it failed before its first step: {info.get('reason')}")
    try:
        return rebuild(record.folder, trust, data)
    except Untrusted:
        raise
    except ConfigError as error:
        advice = ""
        if "_target_" in str(error) and "commit" in info["git"]:
            diff = ", then apply its git.diff" if info["git"].get("dirty") == "true" else ""
            advice = f"; the record is of commit {info['git']['commit']}: check it out{diff}"
        elif str(error).startswith("data"):
            advice = wanted(info["data"])
        raise Gone(f"{error}{advice}") from error
    except BadValue as error:
        raise Gone(
            f"data={error.value}: other documents than the run's{wanted(info['data'])}"
        ) from error


def wanted(data: Mapping[str, Any]) -> str:
    """Advice on how to provide missing documents."""
    size = f"{data['documents']:,} documents"
    return f"; give its {size} with --data FILE, one a line, sha256 {data['digest']}"


def _contradictions(record: Record, now: dict[str, Any]) -> list[str]:
    """Contradictions within the record, which are found without training."""
    told = [*record.contradictions()]
    recorded = record.folder.info["signature"]
    if now["signature"] != recorded:
        told.append(f"config.yaml has signature {now['signature']}, run.json says {recorded}")
    return told


def whole(record: Record, parts: Parts, fresh: Fresh) -> str:
    """Trains and compares each figure with the record; returns what was compared. Raises Parted, Gone."""
    info, trainer = record.folder.info, parts.trainer
    rows = rows_of(record)
    witness = witnesses(rows, record.series)
    count = sum(len(figures) for figures in witness.said[ROWS].values())
    if "fork" in info:
        _start(record, trainer, rows, witness)
    end = ending(record.folder, rows)
    if end.step is not None:
        if end.step <= trainer.step:
            raise Gone("it was stopped before its first step: there is nothing to train again")
        trainer.last_step = min(end.step, trainer.last_step)
    with watcher(True, trainer.step, trainer.last_step) as shown:
        done = again(trainer, watching(record, trainer, witness, end, shown))
    witness.finish()
    check_latest(record)
    end.check(done)
    found = [f"{trainer.step} steps, {count:,} figures"]
    found += [f"{len(done.samples or []):,} samples"] if end.samples else []
    recorded = info.get("parameters_sha256")
    found += [f"parameters {recorded[:12]}"] if recorded else []
    found += [f"failed as recorded ({done.reason})"] if done.reason else []
    return ", ".join(found)


def rows_of(record: Record) -> list[Metrics]:
    """The record's metrics.jsonl, with all numbers as floats. Raises BadRecord."""
    return [{key: row[key] + 0.0 for key in row} for row in record.folder.metrics()]


def _start(record: Record, trainer: Trainer, rows: Sequence[Metrics], witness: Witnesses) -> None:
    """Restores a fork's trainer to its first state, and checks the steps before.

    Raises Gone, BadRecord.
    """
    fork = record.folder.info["fork"]
    step = int(fork["step"])
    file = record.folder.path / f"checkpoints/step-{step}.safetensors"
    if not file.exists():
        raise Gone(f"the store has no {file.name}, the state that the run began with")
    state = read_checkpoint(file, record.folder.signatures)
    check_fits(file, state, trainer)
    trainer.restore(state)
    try:
        parent = record.store.find(fork["mlflow"] or fork["run"])
        told = by_step(record.store.series(parent))
        witness.said[PARENT] = {at: figures for at, figures in told.items() if at <= step}
    except NoSuchRun:
        complain(
            f"the parent {fork['run']} is not in this store: steps up to {step} are not verified"
        )
    for row in rows:
        if row["step"] <= step:
            witness.check(int(row["step"]), figures_of(row), ROWS)
    witness.said.pop(PARENT, None)  # it has none of the steps to come


def check_latest(record: Record) -> None:
    """Raises Parted unless the store's table of latest values agrees with the histories."""
    for name, value in figures_of(record.run.data.metrics).items():
        there = [last for _, last in record.series[name][-1:]]
        if not there or not same(value, there[0]):
            raise Parted(unlike(f"the last {name} of the store", repr(value), f"{there}"))


def watching(
    record: Record,
    trainer: Trainer,
    witness: Witnesses,
    end: Ending,
    shown: Callable[[Event], None],
) -> Callable[[Event], None]:
    """A callback that shows and compares each event, and ends the run where the record ends."""

    def watch(event: Event) -> None:
        shown(event)
        match event:
            case Stepped(step=step, metrics=metrics):
                witness.check(step, figures_of(metrics))
                if step == end.step and end.cut:
                    trainer.interrupt()
            case Checkpointed(step=step):
                _check_checkpoint(record, event)

    return watch


def _check_checkpoint(record: Record, state: Checkpointed) -> None:
    """Raises Parted unless the store's checkpoint of this step, if any, equals this state; BadRecord."""
    file = record.folder.path / f"checkpoints/step-{state.step}.safetensors"
    if file.exists():
        check_state(file.name, read_checkpoint(file, record.folder.signatures), state)
