"""A configuration under test: its run on every engine, trained once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from microgpt.build import Parts, build, resolve
from microgpt.core.data import Batch
from microgpt.core.engine.base import Engine, Matrix
from microgpt.core.engine.shapes import Rows
from microgpt.core.events import Checkpointed, Event, Metrics, Sampled, Stepped
from microgpt.core.trainer import Trainer
from tests.options.choices import CONF, Words, composed, of_group


@dataclass(frozen=True)
class Run:
    """A run to its end: what it began with, and what it told."""

    trainer: Trainer
    initial: dict[str, list[float]]
    events: list[Event]

    @property
    def losses(self) -> list[float]:
        return [event.loss for event in self.events if isinstance(event, Stepped)]

    @property
    def metrics(self) -> list[Metrics]:
        """Every figure but what a clock measured."""
        rows = [event.metrics for event in self.events if isinstance(event, Stepped)]
        return [{k: v for k, v in row.items() if not k.startswith("cost/")} for row in rows]

    @property
    def states(self) -> list[Checkpointed]:
        return [event for event in self.events if isinstance(event, Checkpointed)]

    @property
    def samples(self) -> list[str]:
        return [
            text for event in self.events if isinstance(event, Sampled) for text in event.samples
        ]


class Subject:
    """A composed configuration, whose engine is replaced by each of `engines` in turn."""

    def __init__(self, cfg: DictConfig, engines: Mapping[str, DictConfig], steps: int = 4) -> None:
        self.config = resolve(cfg)
        self.config["trainer"] |= {"num_steps": steps, "checkpoint_every": steps // 2}
        self.config["trainer"]["stop_after"] = None
        self.engine_configs = engines
        self._runs: dict[str, Run] = {}

    @cached_property
    def engines(self) -> dict[str, Engine]:
        return {name: self.run(name).trainer.engine for name in self.engine_configs}

    @cached_property
    def documents(self) -> list[str]:
        return self.build("scalar", None).documents

    def build(self, engine: str, documents: Sequence[str] | None) -> Parts:
        own = {**self.config, "engine": self.engine_configs[engine]}
        return build(OmegaConf.create(own), documents)

    def trainer(self, engine: str) -> Trainer:
        """A new one, before its first step."""
        return self.build(engine, self.documents).trainer

    def run(self, engine: str) -> Run:
        """The whole run on an engine."""
        if engine not in self._runs:
            self._runs[engine] = run(self.trainer(engine))
        return self._runs[engine]

    def rows(self) -> dict[str, Rows]:
        """The weights after training, which no check changes, one for all engines."""
        trainer = self.run("vector").trainer
        return {name: trainer.engine.values(w) for name, w in trainer.weights.items()}

    def constants(self, ops: Engine) -> dict[str, Matrix]:
        """The same as constants of an engine."""
        return {name: ops.constant(numbers) for name, numbers in self.rows().items()}

    def batch(self) -> Batch:
        """Some rows of training data."""
        return self.run("vector").trainer.corpus.batch(1, 3, self.block_size)

    @property
    def block_size(self) -> int:
        return self.run("vector").trainer.model.dims.block_size


def run(trainer: Trainer) -> Run:
    """The run of a trainer to its end."""
    initial = trainer.engine.flat(trainer.weights)
    events: list[Event] = []
    trainer.callbacks.append(events.append)
    trainer.run()
    return Run(trainer, initial, events)


def engines(*folders: Path) -> dict[str, Any]:
    """The configurations of all engines."""
    places = {name: folder for folder in (*folders, CONF) for name in of_group("engine", folder)}
    return {name: OmegaConf.load(f"{folder}/engine/{name}.yaml") for name, folder in places.items()}


@lru_cache(4)  # the checks of one choice follow each other
def subject(text: Path, words: Words, steps: int = 4, folders: tuple[Path, ...] = ()) -> Subject:
    """The subject of a choice; of folders beside ours, too."""
    return Subject(composed(text, words, *folders), engines(*folders), steps)
