"""`microgpt sample`: draws documents from a trained run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from omegaconf import OmegaConf

from microgpt.build import Parts, build, call
from microgpt.core.check import BadValue, integer
from microgpt.core.sampling import Sampler
from microgpt.core.tokenizer import UnknownCharacter
from microgpt.run.folder import RunFolder, find_run


def sample(
    outputs: Path, reference: str, changes: Mapping[str, Any], prompt: str, seed: int | None
) -> Iterator[str]:
    """Draws documents from a run's last checkpoint, with the run's sampling settings and `changes`.

    Raises BadValue, ConfigError and NoSuchRun; the first two also during iteration.
    """
    run = find_run(outputs, reference)
    state = run.last_checkpoint()
    if state is None:
        raise BadValue("RUN", reference, "must have a checkpoint, but has none")
    parts = rebuild(run)
    trainer = parts.trainer
    trainer.restore(state)
    sampler = call("sampling", Sampler, **{**parts.config["sampling"], **changes})
    rng = Random(
        SystemRandom().random() if seed is None else f"{integer('seed', seed, 0)}/sampling"
    )
    try:
        trainer.corpus.tokenizer.encode(prompt)
    except UnknownCharacter as error:
        raise BadValue("prompt", prompt, str(error)) from error
    return sampler.samples(
        trainer.model, trainer.engine, trainer.weights, trainer.corpus, rng, prompt
    )


def rebuild(run: RunFolder, data: Path | None = None) -> Parts:
    """Builds the run's configuration on the documents in its folder, else on those of `data`.

    Raises ConfigError, and BadValue for documents other than the run's.
    """
    own = OmegaConf.create(run.config)
    if data is not None and "path" in own.data:
        own.data.path = str(data)
    parts = build(own, run.documents)
    if parts.data["digest"] != run.info["data"]["digest"]:
        name = own.data.get("path") or parts.data["name"]
        raise BadValue("data", str(name), f"{run.path} was trained on other documents")
    return parts
