"""A run, as `microgpt.load` and `microgpt.train` return it."""

import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.records.record import folder_of
from microgpt.api.error import clean
from microgpt.run.folder import RunFolder
from microgpt.sample import logits, sample
from microgpt.trust import Trust

if TYPE_CHECKING:
    from pandas import DataFrame


class Run:
    """A run: what is recorded of it, and the model of its last checkpoint."""

    def __init__(self, folder: RunFolder, trust: Trust) -> None:
        self._folder, self._trust = folder, trust

    def __repr__(self) -> str:
        return f"<microgpt.Run {self.id} {self.status}>"

    @property
    def id(self) -> str:
        """Its id, as `microgpt runs` lists it."""
        with clean():
            return str(self._folder.info["id"])

    @property
    def folder(self) -> Path:
        """Its folder; of a run that was loaded from a store, a temporary copy."""
        return self._folder.path

    @property
    def status(self) -> str:
        """running, finished, failed, stopped or killed."""
        with clean():
            return self._folder.status

    @property
    def facts(self) -> dict[str, Any]:
        """The content of run.json: `signature`, `source`, `n_params`, `reason`, `data`, ..."""
        with clean():
            return self._folder.info

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        with clean():
            return self._folder.config

    @property
    def samples(self) -> list[str]:
        """The documents that were drawn after the last step."""
        with clean():
            return self._folder.samples()

    def metrics(self) -> "DataFrame":
        """The logged metrics, a row for each logged step: `train/loss`, `val/loss`, `cost/seconds`, ..."""
        from pandas import DataFrame

        with clean():
            rows = self._folder.metrics()
        return DataFrame(rows, columns=None if rows else ["step"]).set_index("step")

    def sample(
        self,
        num_samples: int | None = None,
        *,
        prompt: str = "",
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Draws documents, as `microgpt sample`; None is the run's own setting.

        prompt  the beginning of every document
        seed    makes the samples reproducible
        """
        asked = {
            "num_samples": num_samples,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }
        given = {key: value for key, value in asked.items() if value is not None}
        with clean():
            drawn = sample(self._folder, given, prompt, seed, self._trust)
            return list(drawn)

    def logits(self, text: str) -> "DataFrame":
        """The logits of the next token after each character of a text that begins a document.

        Row t follows the first t characters of the text, which must be shorter than block_size. A column
        is a character of the vocabulary; the last one, "", is the end of the document.
        """
        from pandas import DataFrame

        with clean():
            names, rows = logits(self._folder, text, self._trust)
        return DataFrame(rows, columns=names)


def run_of(reference: str, uri: str | None, outputs: Path, trust: Trust) -> Run:
    """Finds a run in the outputs, else in the store. Raises what `folder_of` raises."""
    stack = ExitStack()
    run = Run(stack.enter_context(folder_of(reference, uri, outputs)), trust)
    weakref.finalize(run, stack.close)  # removes a copy
    return run
