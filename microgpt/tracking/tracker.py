"""What a run or a sweep is tracked with: beside the work, and without ever holding it up."""

import os
from pathlib import Path
from typing import Any

from microgpt.core.check import BadValue, flag
from microgpt.run.folder import RunFolder
from microgpt.secret import ADDRESS, kept, restored
from microgpt.tracking.address import check_experiment, check_uri, store_uri, store_words
from microgpt.tracking.process import Question, SendingProcess, Trouble
from microgpt.tracking.sync import Folder
from microgpt.tracking.view import run_shown, sweep_shown

AT_ONCE = 5.0  # seconds for what is known already, or can be done without


class Tracking:
    """The interface of tracking. This base class tracks nothing."""

    def prepare(self) -> None:
        """Let what takes seconds begin, while the work is prepared."""

    def start(self, folder: Folder, outputs: Path) -> None:
        """Begin to send what `folder` gets."""

    def add(self, folder: Folder) -> None:
        """Send what another folder has, too."""

    def stored(self, patience: float) -> dict[str, tuple[str, str]]:
        """The runs of a sweep that the store tells within so many seconds.

        Their id -> the name of their folder, and their status.
        """
        return {}

    def elsewhere(self) -> dict[str, int]:
        """How many jobs of a sweep are under way in other folders, by machine and path."""
        return {}

    def look(self) -> str | None:
        """What shows the run or the sweep: the address on a server, or the command that starts one."""
        return None

    def words(self) -> list[str] | None:
        """The words with which a command uses this store; None if there is none."""
        return None

    def finish(self) -> str | None:
        """Send the rest. Returns what went wrong, if anything did."""
        return None


class NoTracking(Tracking):
    """The folder is all there is."""


class MLflow(Tracking):
    """Tracks a run, or a sweep, in MLflow beside the work, from a process of its own.

    The work never waits for the store: a store that is down or slow makes its figures late,
    and `finish` or `microgpt sync` sends them.
    """

    PATIENCE = 30.0  # seconds that the end of a run waits for the store

    def __init__(self, *, uri: str | None, experiment: str, system_metrics: bool = False) -> None:
        self.experiment = check_experiment(experiment)
        flag("system_metrics", system_metrics)  # who sends has it from the run's folder
        check_uri(uri or os.environ.get(ADDRESS) or None)
        self.uri = uri and kept(uri)

    def prepare(self) -> None:
        """Let what takes seconds begin, while the work is prepared. Raises BadValue.

        A store whose password is missing is refused now, and not when hours of work are to be sent.
        """
        address = self.uri or os.environ.get(ADDRESS, "")
        try:
            restored(address)
        except LookupError as error:
            raise BadValue("tracking.uri", address, str(error)) from error
        SendingProcess.beside()

    def start(self, folder: Folder, outputs: Path) -> None:
        """Begin to send what `folder` gets."""
        self._folder, self._outputs = folder, outputs.absolute()
        self._store = store_uri(self.uri, outputs)
        self._process = SendingProcess.beside()
        self.add(folder)

    def add(self, folder: Folder) -> None:
        """Send what another folder has, too."""
        self._process.ask("add", self._store, self._outputs, self.experiment, folder)

    def stored(self, patience: float) -> dict[str, tuple[str, str]]:
        """The runs of a sweep that the store tells within so many seconds.

        Their id -> the name of their folder, and their status.
        """
        found: dict[str, tuple[str, str]] | None
        found = self._answer("stored", patience, (self._folder.path,))
        return found or {}

    def elsewhere(self) -> dict[str, int]:
        """How many jobs of a sweep are under way in other folders, by machine and path."""
        found: dict[str, int] | None = self._answer("elsewhere", AT_ONCE, (self._folder.path,))
        return found or {}

    def look(self) -> str | None:
        """What shows the run or the sweep: the address on a server, or the command that starts one.

        None if the store has not been met.
        """
        if isinstance(self._folder, RunFolder):
            run_id = self._folder.mlflow_run_id
            return run_id and run_shown(self._store, self._outputs, self._folder.path.name, run_id)
        experiment: str | None = self._answer("home", AT_ONCE, (self._folder.path,))
        if experiment is None:
            return None
        return sweep_shown(self._store, self._outputs, experiment, self._folder.path.name)

    def words(self) -> list[str]:
        """The words with which a command uses this store."""
        return store_words(self._store, self._outputs)

    def finish(self) -> str | None:
        """Send the rest. Returns what went wrong, if anything did.

        A store that takes one run after the other is waited for, be they as many as they may.
        """
        answer, left = self._process.ask("flush", self._store), self._left()
        while True:
            try:
                problem: str | None = answer.result(self.PATIENCE)
                return problem
            except TimeoutError:
                before, left = left, self._left()
                if left >= before:
                    return f"{self._store}: no end within {self.PATIENCE:g} s"
            except Trouble as error:
                return f"{self._store}: {error}"

    def _left(self) -> int:
        """How many folders are on their way to a store."""
        return self._answer("left", AT_ONCE, ()) or 0

    def _answer(self, question: Question, patience: float, words: tuple[Any, ...]) -> Any:
        try:
            return self._process.ask(question, *words).result(patience)
        except (TimeoutError, Trouble):  # then nothing is known
            return None
