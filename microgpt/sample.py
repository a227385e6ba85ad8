"""Documents from a run that was trained before."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from omegaconf import OmegaConf

from microgpt.build import build, call
from microgpt.core.check import BadValue
from microgpt.core.sampling import Sampler
from microgpt.run.folder import find_run


def sample(
    outputs: Path, reference: str, changes: Mapping[str, Any], prompt: str, seed: int | None
) -> Iterator[str]:
    """Documents by the model in a run's last checkpoint, with the run's own settings but `changes`."""
    run = find_run(outputs, reference)
    state = run.last_checkpoint()
    if state is None:
        raise BadValue("RUN", reference, "must have a checkpoint, but has none")
    parts = build(OmegaConf.create(run.config))
    trainer = parts.trainer
    trainer.restore(state)
    sampler = call("sampling", Sampler, **{**parts.config["sampling"], **changes})
    rng = Random(SystemRandom().random() if seed is None else f"{seed}/sampling")
    tokenizer = trainer.corpus.tokenizer
    return sampler.samples(trainer.model, trainer.engine, trainer.weights, tokenizer, rng, prompt)
