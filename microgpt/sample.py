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
from microgpt.run.reading import BadRecord
from microgpt.run.state import check_finite, last_state
from microgpt.trust import OURS_ALONE, Trust, replayed


def sample(
    outputs: Path,
    reference: str,
    changes: Mapping[str, Any],
    prompt: str,
    seed: int | None,
    trust: Trust = OURS_ALONE,
) -> Iterator[str]:
    """Draws documents from a run's last whole checkpoint, with its sampling settings and `changes`.

    Raises BadValue, BadRecord, ConfigError and NoSuchRun; the first two also during iteration.
    """
    run = find_run(outputs, reference)
    if not run.checkpoints():
        raise BadValue("RUN", reference, "must have a checkpoint, but has none")
    parts = rebuild(run, trust)
    trainer = parts.trainer
    state = last_state(run, trainer)
    if state is None:
        raise BadValue("RUN", reference, "must have a whole checkpoint, but has none")
    check_finite(run, state)
    trainer.restore(state)
    sampler = call("sampling", Sampler, **{**parts.config["sampling"], **changes})
    rng = Random(
        SystemRandom().random() if seed is None else f"{integer('seed', seed, 0)}/sampling"
    )
    try:
        trainer.corpus.tokenizer.encode(prompt)
    except UnknownCharacter as error:
        raise BadValue("prompt", prompt, str(error)) from error
    return _drawn(
        run,
        sampler.samples(
            trainer.model, trainer.engine, trainer.weights, trainer.corpus, rng, prompt
        ),
    )


def _drawn(run: RunFolder, samples: Iterator[str]) -> Iterator[str]:
    """The samples. Raises BadRecord where the weights give none, since an update had diverged."""
    try:
        yield from samples
    except BadValue:
        raise
    except (ArithmeticError, ValueError) as error:
        raise BadRecord(run.path, f"no samples from its last checkpoint: {error}") from error


def rebuild(run: RunFolder, trust: Trust = OURS_ALONE, data: Path | None = None) -> Parts:
    """Builds the run's configuration on the documents in its folder, else on those of `data`.

    Raises ConfigError, and BadValue for documents other than the run's.
    """
    own = OmegaConf.create(replayed(run.config, trust))
    if data is not None and "path" in own.data:
        own.data.path = str(data)
    parts = build(own, run.documents)
    if parts.data["digest"] != run.info["data"].get("digest"):
        name = own.data.get("path") or parts.data["name"]
        raise BadValue("data", str(name), f"{run.path} was trained on other documents")
    return parts
