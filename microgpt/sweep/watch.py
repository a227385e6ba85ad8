"""How a sweep is doing, read from the folders of its runs: whoever trains them, wherever."""

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord, reading, row_of
from microgpt.run.record import FAILED, FINISHED, KILLED, REFUSED, told
from microgpt.run.sweep import SweepFolder

WAITING, SKIPPED = "waiting", "skipped"
OVER = (SKIPPED, FINISHED, FAILED, REFUSED)
TAIL = 4096  # bytes that hold the last record of a run


@dataclass(frozen=True)
class Standing:
    """How one job is doing."""

    status: str
    step: int = 0
    loss: float | None = None  # nats per token, of the last record
    held_out: float | None = None  # nats per token, of the last record that has it
    reason: str = ""
    ended: float | None = None  # seconds since 1970


class Watch:
    """How the jobs of a sweep are doing.

    own  jobs that this command has trained already, in an earlier round
    """

    def __init__(self, sweep: SweepFolder, own: Collection[str] = ()) -> None:
        self.sweep, self._own = sweep, own
        self.jobs: dict[str, dict[str, Any]] = {job["run"]: job for job in sweep.jobs}
        self.steps = int(sweep.info["config"]["trainer"]["num_steps"])  # of a job, more or less
        self._runs = {name: sweep.run(job) for name, job in self.jobs.items()}
        self.before = {name: standing(run) for name, run in self._runs.items()}
        self.now = {name: _waiting(before) for name, before in self.before.items()}
        self.skipped: set[str] = set()
        self.skip(set())
        self._begun = monotonic()

    def skip(self, stored: set[str]) -> None:
        """Skips the jobs that are finished or refused here, and those of `stored`, finished in a store."""
        for name, before in self.before.items():
            if before.status == FINISHED or (before.status == WAITING and name in stored):
                self.now[name] = before if name in self._own else Standing(SKIPPED)
            elif before.status != REFUSED:
                continue
            self.skipped.add(name)

    def look(self) -> list[str]:
        """Look again at the jobs that are not over; returns those that have come to an end."""
        ended = []
        place = self.sweep.path.parent.parent / "runs"
        there = set(os.listdir(place)) if place.is_dir() else set()  # of thousands, most may wait
        for name, last in self.now.items():
            if last.status in OVER or name not in there:
                continue
            now = standing(self._runs[name])
            if now == self.before[name]:
                now = _waiting(now)
            elif now.status in OVER:
                ended.append(name)
            self.now[name] = now
        return ended

    def count(self, *statuses: str) -> int:
        """How many jobs stand so."""
        return sum(now.status in statuses for now in self.now.values())

    def unfinished(self) -> dict[str, str]:
        """The jobs that are not finished though they might be, and why."""
        self.look()
        return {
            name: now.reason or f"it is {now.status}"
            for name, now in self.now.items()
            if now.status not in (FINISHED, SKIPPED, REFUSED)
        }

    def refused(self) -> dict[str, str]:
        """The jobs that make no sense, and why."""
        return {name: now.reason for name, now in self.now.items() if now.status == REFUSED}

    def losses(self) -> dict[str, float]:
        """The last held-out loss of each job that is finished here."""
        ends = {
            name: self.before[name] if now.status == SKIPPED else now
            for name, now in self.now.items()
        }
        return {
            name: end.held_out
            for name, end in ends.items()
            if end.status == FINISHED and end.held_out is not None
        }

    def seconds_left(self) -> float | None:
        """How long it takes, at the pace so far; None before there is one."""
        done = left = 0
        for name, now in self.now.items():
            if now.status == SKIPPED:
                continue
            done += now.step - self.before[name].step
            left += 0 if now.status in OVER else max(0, self.steps - now.step)
        return (monotonic() - self._begun) * left / done if done > 0 else None


def _waiting(before: Standing) -> Standing:
    """A job that failed, or was killed, and is still to be done again."""
    return replace(before, status=WAITING) if before.status in (FAILED, KILLED) else before


def standing(run: RunFolder) -> Standing:
    """How a run is doing; a damaged one has failed."""
    if not run.exists:
        return Standing(WAITING)
    try:
        info, status = run.info_and_status()
        row, held_out = last_rows(run)
    except BadRecord as error:
        return Standing(FAILED, reason=str(error))
    loss = row.get("train/loss")
    step, why = int(row.get("step", 0)), info.get("reason") or ""
    return Standing(told(info, status), step, loss, held_out, why, info.get("ended"))


def last_rows(run: RunFolder) -> tuple[dict[str, float], float | None]:
    """The last record of a run, and the last held-out loss of the latest records."""
    with reading(run.metrics_path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        lines = file.read().split(b"\n")[:-1]
    rows = []
    for line in lines[1 if size > TAIL else 0 :]:
        with suppress(BadRecord):  # a damaged line: the job itself will tell
            rows.append(row_of(line, run.metrics_path))
    held_out = [row["val/loss"] for row in rows if "val/loss" in row]
    return rows[-1] if rows else {}, held_out[-1] if held_out else None
