"""A sweep, as `microgpt.sweep` returns it, and as `runs`, `curves` and `arms` read it."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from microgpt.ablation.records.record import BEST
from microgpt.ablation.records.store import client_of, read_sweep
from microgpt.ablation.records.sweep import Sweep as Stored
from microgpt.ablation.report.report import lock_of
from microgpt.api.error import clean
from microgpt.api.frames import arms_frame, curves_frame, stored_frame
from microgpt.api.run import Run, run_of
from microgpt.tracking.find import find_parent
from microgpt.trust import Trust

if TYPE_CHECKING:
    from pandas import DataFrame


class Sweep:
    """A sweep, read once from the MLflow store when it is first asked."""

    def __init__(self, name: str, uri: str | None, outputs: Path, trust: Trust) -> None:
        self._name, self._uri, self._outputs, self._trust = name, uri, outputs, trust

    def __repr__(self) -> str:
        return f"<microgpt.Sweep {self._name}>"

    @cached_property
    def _read(self) -> Stored:
        client, store = client_of(self._uri, self._outputs)
        return read_sweep(client, find_parent(client, self._name, store), self._trust)

    @property
    def id(self) -> str:
        """Its id, which `microgpt report` and `microgpt ui` take."""
        with clean():
            return self._read.id

    def runs(self) -> "DataFrame":
        """A row for each run: arm, seed, status, why it has no result, and its last metrics."""
        with clean():
            return stored_frame(self._read.runs)

    def curves(self) -> "DataFrame":
        """A row for each logged step of each finished run: run, arm, seed, step and metrics."""
        with clean():
            return curves_frame(self._read.runs)

    def arms(self) -> "DataFrame":
        """A row for each arm: the table of `microgpt report`.

        `loss` is the mean over seeds, `difference` the mean difference from the baseline's at the same
        seeds; `_low` and `_high` are the ends of 95 % intervals, which hold together for the differences;
        `word` says what the difference amounts to.
        """
        with clean():
            client, store = client_of(self._uri, self._outputs)
            return arms_frame(lock_of(client, self._read, store)["table"])

    def best(self) -> Run:
        """The finished run with the lowest last validation loss."""
        with clean():
            return run_of(f"{self._read.id}{BEST}", self._uri, self._outputs, self._trust)
