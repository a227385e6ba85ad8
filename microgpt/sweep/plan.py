"""A sweep before it begins: its jobs, who they are, and what there is to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from microgpt.build import documents_of, part
from microgpt.core.data import digest
from microgpt.run.identity import signature
from microgpt.run.sweep import key
from microgpt.sweep.compose import Composer
from microgpt.sweep.expand import short_names, short_values
from microgpt.syntax import key_and_value
from microgpt.terminal import ConfigError
from microgpt.train import code_of


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    overrides: list[str]  # of the command line, less those that all jobs share
    differs: dict[str, str]  # the keys that differ between jobs, with this job's values
    tags: dict[str, str]  # the same by short names
    arm: str  # what differs but for the seed
    name: str
    seed: int
    signature: str
    source: str
    data: str  # digest of its documents
    run: str  # name of the run's folder
    config: dict[str, Any] = field(repr=False)  # resolved, shared in part with other jobs

    @property
    def facts(self) -> dict[str, Any]:
        """What a sweep's folder keeps of it: the run's own has the configuration."""
        return {each.name: getattr(self, each.name) for each in fields(self)[:-1]}


def jobs_of(rows: Sequence[Sequence[str]], grid: Mapping[str, Any], compose: Composer) -> list[Job]:
    """The jobs of a sweep; of several with one signature and source, the first. Raises ConfigError."""
    digests: dict[str, str] = {}
    arithmetics: dict[str, str] = {}
    names, values = short_names(list(grid)), {key: short_values(grid[key]) for key in grid}
    jobs: dict[str, Job] = {}
    for row in rows:
        config = compose.plain(row)
        data = str({**config["data"], "val_fraction": None, "split_seed": None})
        if data not in digests:
            digests[data] = _digest(config)
        if (engine := str(config["engine"])) not in arithmetics:
            arithmetics[engine] = _arithmetic(config)
        asked = signature(config, digests[data], arithmetics[engine])
        job = _job(row, config, asked, digests[data], names, values)
        jobs.setdefault(job.run, job)
    return list(jobs.values())


def _job(
    row: Sequence[str],
    config: dict[str, Any],
    asked: str,
    data: str,
    names: Mapping[str, str],
    values: Mapping[str, Mapping[str, str]],
) -> Job:
    code = code_of(config)["source"]
    given = dict(map(key_and_value, row))
    differs = {key: given[key] for key in names if key in given}
    tags = {names[key]: values[key][value] for key, value in differs.items()}
    words = {key: f"{names[key]}={tags[names[key]]}" for key in differs}
    return Job(
        overrides=[word for word in row if key_and_value(word)[0] in differs],
        differs=differs,
        tags=tags,
        arm=" ".join(word for key, word in words.items() if key != "seed") or "default",
        name=" ".join(words.values()) or "default",
        seed=config["seed"],
        signature=asked,
        source=code,
        data=data,
        run=key(asked, code),
        config=config,
    )


def _digest(config: Mapping[str, Any]) -> str:
    """The digest of a job's data; empty if it cannot be read, which the job itself will tell."""
    try:
        source = part(config, "data")
        return digest(documents_of(config, source), source.corpus.batching)
    except ConfigError:
        return ""


def _arithmetic(config: Mapping[str, Any]) -> str:
    """The arithmetic of a job's engine; its keys if it cannot be built, which the job itself will tell."""
    try:
        arithmetic: str = part(config, "engine").arithmetic
    except ConfigError:
        return str(config["engine"])
    return arithmetic
