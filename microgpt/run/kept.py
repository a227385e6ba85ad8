"""Notices when the files of a run are deleted while it trains."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microgpt.core.events import Checkpointed, Event, Sampled, Stepped
from microgpt.run.folder import RunFolder


class Deleted(RuntimeError):
    """Files of a run were deleted during the run."""


class Kept:
    """The files that a run has written and needs; a callback of the trainer, after the folder itself.

    Older checkpoints are not among them: who needs the space may delete those.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._files = [file for file in run.files() if file.parent == run.path]
        self._checkpoint: list[Path] = []
        self._log = run.metrics_path.open("rb")  # open, so that no other file gets its number

    def __call__(self, event: Event) -> None:
        """Raises Deleted at the first logged step after the log was deleted; the log is then a new file."""
        match event:
            case Checkpointed(step=step):
                self._checkpoint = [self._run.path / f"checkpoints/step-{step}.safetensors"]
            case Sampled():
                self._files.append(self._run.path / "samples.txt")
            case Stepped(metrics=metrics) if metrics:
                self.check()

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raises Deleted at the end of the block, whatever the block raised, if a file is gone."""
        with self._log:
            try:
                yield
            finally:
                self.check()

    @property
    def gone(self) -> list[str]:
        """The names of the files that are no longer there."""
        files = [file for file in self._files + self._checkpoint if not self._is_there(file)]
        return [str(file.relative_to(self._run.path)) for file in files]

    def check(self) -> None:
        """Raises Deleted if a file is no longer there."""
        if gone := self.gone:
            advice = "what is left of this run cannot be relied upon"
            raise Deleted(f"{self._run.path}: deleted during the run: {', '.join(gone)}; {advice}")

    def _is_there(self, file: Path) -> bool:
        """Whether a file exists; the log, which is appended to, must also be the same one as before."""
        try:
            found = file.stat()
        except OSError:
            return False
        return file != self._run.metrics_path or os.path.samestat(
            found, os.fstat(self._log.fileno())
        )
