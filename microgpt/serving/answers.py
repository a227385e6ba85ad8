"""What a served model answers: documents that it draws, or the nats of documents that it is given."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from microgpt.build import call
from microgpt.core.check import BadValue, integer
from microgpt.core.sampling import Sampler
from microgpt.run.folder import RunFolder
from microgpt.sample import drawing, encoded, nats, restored
from microgpt.trust import trust_of

GENERATE, SCORE = "generate", "score"
SETTINGS = {"temperature": float, "top_k": int, "top_p": float}


class Answers:
    """The model of a run's last checkpoint."""

    def __init__(self, folder: Path, packages: Sequence[str]) -> None:
        """`packages` are those whose classes the run may name. Raises what `restored` raises."""
        self.run = RunFolder(folder)
        parts = restored(self.run, str(folder), trust_of(packages, None))
        self.trainer, self.sampling = parts.trainer, parts.config["sampling"]

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters of a request, with the run's own settings."""
        own = {key: kind(self.sampling[key]) for key, kind in SETTINGS.items()}
        return {"task": GENERATE, "seed": 0, **own}

    def __call__(
        self, texts: Sequence[Any], task: str, seed: int, **settings: Any
    ) -> list[dict[str, Any]]:
        """For each text a document, its nats under the model at temperature 1, and its predicted tokens.

        generate  documents that begin with the texts; one seed gives the same each time
        score     the texts themselves

        Raises BadValue, ConfigError, BadRecord.
        """
        for text in texts:
            if not isinstance(text, str):
                raise BadValue("text", text, "must be a text")
        if task not in (GENERATE, SCORE):
            raise BadValue("task", task, f"must be {GENERATE} or {SCORE}")
        with drawing(self.run):
            drawn = self._drawn(texts, seed, settings) if task == GENERATE else texts
            scores = [nats(self.trainer, text) for text in drawn]
        return [
            {"text": text, "nats": sum(score), "tokens": len(score)}
            for text, score in zip(drawn, scores)
        ]

    def _drawn(self, prompts: Sequence[str], seed: int, settings: dict[str, Any]) -> list[str]:
        sampler = call("", Sampler, num_samples=1, **settings)
        rng, trainer = Random(f"{integer('seed', seed, 0)}/sampling"), self.trainer
        for prompt in prompts:
            encoded(trainer, "text", prompt)
        parts = trainer.model, trainer.engine, trainer.weights, trainer.corpus, rng
        return [text for prompt in prompts for text in sampler.samples(*parts, prompt)]
