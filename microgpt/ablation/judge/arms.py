"""The two arms of a judgement: configurations that differ, and are evaluated on the same tokens."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from microgpt.build import Parts, built
from microgpt.override import resolved
from microgpt.run.folder import find_run
from microgpt.run.held_out import batches_of, targets_sha256
from microgpt.run.identity import signature
from microgpt.run.sweep import key
from microgpt.sweep.expand import short_names, short_values
from microgpt.sweep.plan import Job
from microgpt.syntax import key_and_value
from microgpt.terminal import ConfigError
from microgpt.tracking import params_of
from microgpt.train import code_of
from microgpt.trust import Trust, replayed

FIRST = "first_seed"  # what tells two arms apart that differ in nothing else
NOTHING = "none"  # the value of a key that an arm has not
ROLES = ("base", "candidate")


@dataclass(frozen=True)
class Arm:
    """A configuration that is trained with the seeds `first`, `first` + 1, ..."""

    role: str  # one of ROLES
    name: str  # `n_embd=12 norm=layernorm`
    config: dict[str, Any]  # resolved, without a sweep
    first: int
    data: str  # digest of its documents
    arithmetic: str
    differs: Mapping[str, str]  # from the other arm, by params of MLflow

    def job(self, number: int, values: Mapping[str, Sequence[str]]) -> Job:
        """The run number `number` of the arm, from 0; `values` are those of both arms by key."""
        seed = self.first + number
        config = {**self.config, "seed": seed}
        asked = signature(config, self.data, self.arithmetic)
        code = code_of(config)["source"]
        names = short_names(list(self.differs))
        tags = {names[key]: short_values(values[key])[v] for key, v in self.differs.items()}
        return Job(
            overrides=[f"{key}={value}" for key, value in self.differs.items()] + [f"seed={seed}"],
            differs={**self.differs, "seed": str(seed)},
            tags={**tags, "seed": str(seed)},
            arm=self.name,
            name=f"{self.name} seed={seed}",
            seed=seed,
            signature=asked,
            source=code,
            data=self.data,
            run=key(asked, code),
            config=config,
        )


@dataclass(frozen=True)
class Pair:
    """The arms, and the metric that judges them."""

    base: Arm
    candidate: Arm
    metric: str
    documents: int  # that it is computed on

    @property
    def is_paired(self) -> bool:
        """Whether both arms have the same seeds."""
        return self.base.first == self.candidate.first

    @property
    def values(self) -> dict[str, list[str]]:
        """The values of the two arms, by key."""
        keys = self.base.differs
        return {
            key: list(dict.fromkeys([self.base.differs[key], self.candidate.differs[key]]))
            for key in keys
        }

    def jobs(self, count: int) -> list[Job]:
        """The runs of the first pairs."""
        arms, values = (self.base, self.candidate), self.values
        return [arm.job(number, values) for number in range(count) for arm in arms]


def pair_of(
    base: str,
    candidate: str,
    words: Sequence[str],
    folder: Path | None,
    outputs: Path,
    trust: Trust,
) -> Pair:
    """The pair that two texts describe: overrides, or references of runs; `words` are of both.

    Raises ConfigError, NoSuchRun, BadRecord.
    """
    one, first = _config("BASE", base, words, folder, outputs, trust)
    other, own = _config("CANDIDATE", candidate, words, folder, outputs, trust)
    starts = first, own if _says_seed(candidate) else first
    parts = built(one), built(other)
    told = params_of({**one, "seed": 0}), params_of({**other, "seed": 0})
    keys = [key for key in dict(told[0], **told[1]) if told[0].get(key) != told[1].get(key)]
    differs = [{key: own.get(key, NOTHING) for key in keys} for own in told]
    if not keys and starts[0] != starts[1]:
        differs = [{FIRST: str(start)} for start in starts]
    names = _names((base, candidate), differs)
    arms = [
        Arm(
            role, name, each.config, start, each.data["digest"], each.trainer.engine.arithmetic, own
        )
        for role, name, each, start, own in zip(ROLES, names, parts, starts, differs)
    ]
    if not differs[0]:
        problem = "BASE and CANDIDATE are the same; one of them must differ, at least in its seeds"
        raise ConfigError(f"{problem}, as seed=1000")
    metric, documents = _metric(*parts)
    return Pair(arms[0], arms[1], metric, documents)


def _names(texts: Sequence[str], differs: Sequence[Mapping[str, str]]) -> list[str]:
    """What to call the arms: by what was given of each alone, but for the seed, or else by their roles.

    Runs, and arms of which the seeds alone differ, are called by how they differ.
    """
    one, other = (dict(map(key_and_value, shlex.split(text))) for text in texts)
    given = [
        {key: value for key, value in own.items() if key != "seed" and theirs.get(key) != value}
        for own, theirs in ((one, other), (other, one))
    ]
    if not any(given) or FIRST in differs[0] or any(map(_is_run, texts)):
        given = [dict(each) for each in differs]
    short = short_names([*given[0] | given[1]])
    told = [" ".join(f"{short[key]}={value}" for key, value in each.items()) for each in given]
    return [name or role for name, role in zip(told, ROLES)]


def _is_run(text: str) -> bool:
    return bool(text.strip()) and "=" not in text


def _config(
    role: str,
    text: str,
    words: Sequence[str],
    folder: Path | None,
    outputs: Path,
    trust: Trust,
) -> tuple[dict[str, Any], int]:
    """The configuration of an arm, and its first seed."""
    if _is_run(text):
        config = _recorded(role, text, words, outputs, trust)
    else:
        config = resolved([*words, *_words(role, text)], folder)
        if config["resume"] is not None:
            raise ConfigError(f"resume={config['resume']}: new runs are judged")
    config["paths"]["outputs"] = str(Path(config["paths"]["outputs"]).absolute())
    return {**config, "experiment": None, "description": None, "progress": False}, config["seed"]


def _recorded(
    role: str, text: str, words: Sequence[str], outputs: Path, trust: Trust
) -> dict[str, Any]:
    """The configuration of a run."""
    run = find_run(outputs, text.strip())
    if words:
        raise ConfigError(f"{words[0]}: {role} is a run, and keeps its configuration")
    if "fork" in run.info:
        raise ConfigError(f"{role}={text}: is a fork, which its configuration does not repeat")
    config = replayed(run.config, trust)
    again = built(config).data["digest"]
    if again != run.info["data"]["digest"]:
        raise ConfigError(f"{role}={text}: was trained on documents that are no longer there")
    return {**config, "paths": {"outputs": str(outputs)}, "sweep": None, "resume": None}


def _words(role: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{role}={text}: cannot be read ({error})") from error


def _says_seed(text: str) -> bool:
    return any(key_and_value(word)[0] == "seed" for word in text.split())


def _metric(base: Parts, candidate: Parts) -> tuple[str, int]:
    """The metric and its number of documents. Raises ConfigError if they are not of the same tokens."""
    both = base.trainer, candidate.trainer
    part: Literal["val", "test"] = "val"
    if all(trainer.corpus.split.test for trainer in both):
        part = "test"
    batches = [batches_of(trainer, part) for trainer in both]
    counts = [sum(len(batch.spans) for batch in each) for each in batches]
    if not all(counts):
        raise ConfigError(
            "data.val_fraction, data.test_fraction, trainer.eval_documents: both arms must be evaluated "
            "on held-out documents"
        )
    if targets_sha256(batches[0]) != targets_sha256(batches[1]):
        problem = "BASE and CANDIDATE are evaluated on different tokens, which cannot be compared"
        raise ConfigError(
            f"{problem}: the same data, split, block_size and eval_documents are needed"
        )
    return f"{part}/loss", counts[0]
