"""What a run's model does with a text, as numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from microgpt.ablation.inspect.walk import Walk, walk
from microgpt.ablation.inspect.watching import Grid, Watching
from microgpt.core.check import BadValue
from microgpt.core.data import Corpus, make_batch
from microgpt.core.sampling import Sampler
from microgpt.core.tokenizer import UnknownCharacter
from microgpt.core.trainer import Trainer
from microgpt.run.folder import RunFolder
from microgpt.sample import drawing, restored
from microgpt.terminal import complain
from microgpt.trust import Trust

LONGEST = 48  # tokens of the text, with its beginning: more make no readable picture
SAMPLES = 12
BEGIN, END = "▷", "■"


@dataclass(frozen=True)
class Look:
    """One run and one text.

    Position t has seen the characters up to `seen[t]`, and predicts the next one.
    """

    run: str
    name: str
    step: int
    n_params: int
    seen: list[str]  # [T]
    targets: list[str | None]  # [T]; None after a prompt, which has no next character
    losses: list[float | None]  # [T] nats
    vocabulary: list[str]
    probabilities: Grid  # [T][vocab_size]
    attention: list[list[Grid]]  # [n_layer][n_head][T][T]
    activations: list[tuple[str, list[float]]]  # (weight, [T] root mean squares)
    gradients: list[tuple[str, float, float]]  # (weight, norm, norm of the mean loss's gradient)
    embeddings: Grid  # of tokens, [vocab_size][n_embd]; empty if the model has none
    positions: Grid  # of positions, [block_size][n_embd]; likewise
    curve: dict[str, list[tuple[int, float]]]  # (step, loss) of train/loss and val/loss
    samples: list[str]
    walk: Walk  # over the first tokens

    @property
    def loss(self) -> float | None:
        """The mean loss, in nats per predicted character."""
        known = [loss for loss in self.losses if loss is not None]
        return math.fsum(known) / len(known) if known else None


def look(run: RunFolder, prompt: str | None, seed: int, trust: Trust) -> Look:
    """Looks at the last whole checkpoint with a prompt, or else with a held-out document.

    Raises BadValue, BadRecord and ConfigError.
    """
    trainer = restored(run, run.path.name, trust).trainer
    with drawing(run):
        return _look(run, trainer, prompt, seed)


def _look(run: RunFolder, trainer: Trainer, prompt: str | None, seed: int) -> Look:
    ids, targets = _sequence(trainer, prompt)
    ops = Watching()
    rows = _rows(trainer)
    weights = ops.parameters(rows)
    ops.watch(weights)
    logits = trainer.model(ops, weights, ids, [(0, len(ids))])
    probabilities = [list(row) for row in ops.values(ops.softmax(logits))]
    known = [i if i is not None else 0 for i in targets]
    each = ops.cross_entropy(logits, known)
    losses = [None if i is None else row[0] for i, row in zip(targets, ops.values(each))]
    count = sum(i is not None for i in targets)
    if count:
        picked = ops.gather(each, [t for t, i in enumerate(targets) if i is not None])
        ops.backward(ops.mean(picked))
    changes = ops.gradients(weights) if count else {}
    names = _names(trainer.corpus)
    sampler = Sampler(num_samples=SAMPLES, temperature=0.8, top_k=0, top_p=1.0)
    rng = Random(f"{seed}/inspect")
    drawn = sampler.samples(
        trainer.model, trainer.engine, trainer.weights, trainer.corpus, rng, prompt or ""
    )
    return Look(
        run=str(run.info["id"]),  # the folder may be a temporary copy
        name=str(run.info["name"]),
        step=trainer.step,
        n_params=sum(weight.size for weight in trainer.shapes.values()),
        seen=[BEGIN if i == trainer.corpus.tokenizer.bos else names[i] for i in ids],
        targets=[None if i is None else names[i] for i in targets],
        losses=losses,
        vocabulary=names,
        probabilities=probabilities,
        attention=ops.attended,
        activations=ops.activations,
        gradients=[
            (name, _norm(rows[name]), _norm(ops.values(changes[name])) if changes else 0.0)
            for name in weights
        ],
        embeddings=rows.get("wte", []),
        positions=rows.get("wpe", []),
        curve=_curve(run),
        samples=list(drawn),
        walk=walk(trainer.model, rows, ids, targets),
    )


def _sequence(trainer: Trainer, prompt: str | None) -> tuple[list[int], list[int | None]]:
    """The tokens of a text, at most LONGEST, and what follows each: after a prompt nothing is known."""
    corpus, size = trainer.corpus, min(trainer.model.dims.block_size, LONGEST)
    if prompt is None:
        part = corpus.split.validation or corpus.split.test or corpus.split.train
        batch = next(iter(corpus.held_out(part, 1, 1, size)))
        return list(batch.tokens), list(batch.targets)
    if LONGEST <= len(prompt) < trainer.model.dims.block_size:  # a longer one is refused
        complain(f"--prompt: its first {size - 1} of {len(prompt)} characters; a page has no more")
    try:
        ids = [corpus.begin, *corpus.tokenizer.encode(prompt)][:size]
    except UnknownCharacter as error:
        raise BadValue("prompt", prompt, str(error)) from error
    return ids, [*make_batch([ids]).targets, None]


def _rows(trainer: Trainer) -> dict[str, Grid]:
    """The weights as rows of numbers."""
    flat, shapes = trainer.engine.flat(trainer.weights), trainer.shapes
    return {
        name: [
            list(flat[name][i * shapes[name].n_in : (i + 1) * shapes[name].n_in])
            for i in range(shapes[name].n_out)
        ]
        for name in flat
    }


def _names(corpus: Corpus) -> list[str]:
    """What each token is called."""
    tokenizer = corpus.tokenizer
    return [
        END if i == tokenizer.bos else tokenizer.decode([i]) for i in range(tokenizer.vocab_size)
    ]


def _norm(rows: Sequence[Sequence[float]]) -> float:
    return math.sqrt(math.fsum(x * x for row in rows for x in row))


def _curve(run: RunFolder) -> dict[str, list[tuple[int, float]]]:
    rows: list[Mapping[str, float]] = list(run.metrics())
    return {
        key: [
            (int(row["step"]), row[key]) for row in rows if key in row and math.isfinite(row[key])
        ]
        for key in ("train/loss", "val/loss")
    }
