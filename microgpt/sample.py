"""`microgpt sample`: draws documents from a trained run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from omegaconf import OmegaConf

from microgpt.build import Parts, build, call
from microgpt.core.check import BadValue, integer
from microgpt.core.data import Documents
from microgpt.core.engine.base import Matrix
from microgpt.core.sampling import Sampler
from microgpt.core.tokenizer import UnknownCharacter
from microgpt.core.trainer import Trainer
from microgpt.run.folder import RunFolder
from microgpt.run.reading import BadRecord
from microgpt.run.state import check_finite, check_kept, last_state
from microgpt.trust import OURS_ALONE, Trust, replayed


def sample(
    run: RunFolder,
    changes: Mapping[str, Any],
    prompt: str,
    seed: int | None,
    trust: Trust = OURS_ALONE,
) -> Iterator[str]:
    """Draws documents from a run's last whole checkpoint, with its sampling settings and `changes`.

    Raises BadValue, BadRecord and ConfigError; the first two also during iteration.
    """
    parts = restored(run, run.path.name, trust)
    trainer = parts.trainer
    sampler = call("sampling", Sampler, **{**parts.config["sampling"], **changes})
    rng = Random(
        SystemRandom().random() if seed is None else f"{integer('seed', seed, 0)}/sampling"
    )
    encoded(trainer, "prompt", prompt)
    return _drawn(
        run,
        sampler.samples(
            trainer.model, trainer.engine, trainer.weights, trainer.corpus, rng, prompt
        ),
    )


def logits(run: RunFolder, text: str, trust: Trust) -> tuple[list[str], list[list[float]]]:
    """The logits after each character of a text that begins a document, under the last checkpoint.

    Returns the tokens, the end token as "", and `[len(text) + 1][vocab_size]`. Raises as `sample`.
    """
    trainer = restored(run, run.path.name, trust).trainer
    found = trainer.engine.values(_logits(trainer, encoded(trainer, "text", text)))
    return [*trainer.corpus.tokenizer.characters, ""], [list(row) for row in found]


def nats(trainer: Trainer, text: str) -> list[float]:
    """The nats of each character of a document, and of its end. Raises BadValue.

    The end is not predicted in running text, nor after block_size characters.
    """
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
    end = [corpus.tokenizer.bos] if corpus.batching == Documents.batching else []
    ids = [*encoded(trainer, "text", text, block_size), *end][: block_size + 1]
    if len(ids) == 1:
        raise BadValue("text", text, "must have a character")
    ops = trainer.engine
    return [row[0] for row in ops.values(ops.cross_entropy(_logits(trainer, ids[:-1]), ids[1:]))]


def _logits(trainer: Trainer, ids: list[int]) -> Matrix:
    ops = trainer.engine
    weights = {name: ops.detached(weight) for name, weight in trainer.weights.items()}
    return trainer.model(ops, weights, ids, [(0, len(ids))])


def encoded(trainer: Trainer, key: str, text: str, most: int | None = None) -> list[int]:
    """The ids of a text that begins a document. Raises BadValue.

    most  characters; None for one less than block_size, so that another can follow
    """
    corpus, block_size = trainer.corpus, trainer.model.dims.block_size
    if len(text) > (block_size - 1 if most is None else most):
        allowed = (
            f"shorter than block_size={block_size}"
            if most is None
            else f"at most {most} characters"
        )
        raise BadValue(key, text, f"must be {allowed}")
    try:
        return [corpus.begin, *corpus.tokenizer.encode(text)]
    except UnknownCharacter as error:
        raise BadValue(key, text, str(error)) from error


def restored(run: RunFolder, reference: str, trust: Trust) -> Parts:
    """The run at its last whole checkpoint. Raises ConfigError, BadRecord, BadValue if it has none."""
    check_kept(run, reference)
    parts = rebuild(run, trust)
    state = last_state(run, parts.trainer)
    if state is None:
        raise BadValue("RUN", reference, "must have a whole checkpoint, but has none")
    check_finite(run, state)
    parts.trainer.restore(state)
    return parts


def _drawn(run: RunFolder, samples: Iterator[str]) -> Iterator[str]:
    """The samples. Raises BadRecord."""
    with drawing(run):
        yield from samples


@contextmanager
def drawing(run: RunFolder) -> Iterator[None]:
    """Raises BadRecord where the weights give no probabilities, since an update had diverged."""
    try:
        yield
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
