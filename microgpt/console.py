"""Output of a run on the terminal: progress, summary, and the table of runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from microgpt.core.events import Event, Stepped
from microgpt.terminal import printable


class Output(Console):
    """Standard output. If nobody reads it any more, as after `| head`, what follows is not printed."""

    def on_broken_pipe(self) -> None:
        """Called by rich, whose own would end the program."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


out = Output(highlight=False, soft_wrap=True)
wide = Output(highlight=False, width=10_000)  # for tables that no terminal shows


def print_table(table: Table) -> None:
    """Prints a table: as wide as the terminal at most, and whole where there is none."""
    (out if out.is_terminal else wide).print(table)


@contextmanager
def silent() -> Iterator[None]:
    """Prints nothing on standard output in the block, but what is wrong on standard error."""
    before = out.quiet, wide.quiet
    out.quiet = wide.quiet = True
    try:
        yield
    finally:
        out.quiet, wide.quiet = before


class Bar:
    """A progress bar with smoothed loss (over about 50 steps), tokens per second and time left."""

    def __init__(self, first_step: int, last_step: int) -> None:
        self._progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=out,
            transient=True,
        )
        self._task = self._progress.add_task("", total=last_step, completed=first_step, figures="")
        self._begun, self._tokens = monotonic(), 0
        self._loss: float | None = None
        self._val = ""

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Stepped):
            return
        self._loss = event.loss if self._loss is None else 0.98 * self._loss + 0.02 * event.loss
        self._tokens += event.tokens
        if "val/loss" in event.metrics:
            self._val = f"  held-out {event.metrics['val/loss']:.4f}"
        rate = self._tokens / (monotonic() - self._begun + 1e-9)
        figures = f"loss {self._loss:.4f}{self._val}  {rate:,.0f} tokens/s"
        self._progress.update(self._task, completed=event.step, figures=figures)


class Lines:
    """A line for every evaluation and every tenth of the steps, if the output is not a terminal."""

    def __init__(self, first_step: int, last_step: int) -> None:
        self._last, self._every = last_step, max(1, last_step // 10)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Nothing to clean up."""

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Stepped):
            return
        held_out = event.metrics.get("val/loss")
        if held_out is None and event.step % self._every and event.step != self._last:
            return
        line = f"step {event.step:>6} / {self._last}  loss {event.loss:.4f}"
        out.print(line + (f"  held-out {held_out:.4f}" if held_out is not None else ""))


class Silent(Lines):
    """No output."""

    def __call__(self, event: Event) -> None:
        """Prints nothing."""


def watcher(progress: bool, first_step: int, last_step: int) -> Bar | Lines:
    """A progress bar on a terminal, lines elsewhere, no output if `progress` is false."""
    kind = (Bar if out.is_terminal else Lines) if progress else Silent
    return kind(first_step, last_step)


def summary(metrics: list[dict[str, float]], samples: list[str]) -> None:
    """Prints the last metrics and the samples."""
    last: dict[str, Any] = metrics[-1] if metrics else {}
    if "val/bpc" in last:
        out.print(
            f"held-out loss [bold]{last['val/loss']:.4f}[/] nats per token, "
            f"[bold]{last['val/bpc']:.4f}[/] bits per character"
        )
    elif "train/loss" in last:
        out.print(f"loss of the last step {last['train/loss']:.4f} nats per token")
    if samples:
        shown = [printable(sample) or "·" for sample in samples]
        out.print(Columns(shown, padding=(0, 2)), markup=False)
