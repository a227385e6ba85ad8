"""results.lock.json: all evidence of a claim in one file, with a digest that detects edits.

`digest` is the sha256 of the canonical JSON of everything else. `config` is the resolved base
configuration, with neutral values for keys that change no figures (paths, tracking, progress, resume).
A run's configuration is `config` with its `overrides` applied and its `removed` keys deleted.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

from microgpt.core.check import BadValue
from microgpt.protocol.protocol import digest_of
from microgpt.run.facts import PROTOCOL
from microgpt.run.held_out import HeldOut
from microgpt.run.identity import leaves
from microgpt.run.reading import (
    COUNT,
    KEYS,
    NUMBER,
    NUMBERS,
    TEXT,
    TEXTS,
    BadRecord,
    Kind,
    Kinds,
    check,
    each,
    json_of,
    or_null,
    read_bytes,
    with_keys,
)
from microgpt.run.record import FINISHED

LOCK = "results.lock.json"
CURVE = ("step", "lr", "val/loss")  # of each evaluation on the way
SCHEMA = 3  # the version of what a lock holds
BEFORE = 2  # of which one of this version can be made without a store
ASKED = with_keys("a question", {"question": TEXT, "source": TEXT}, {"claim": or_null(KEYS)})
# Of an experiment: a file below conf/experiment.
NAME = Kind(
    "the name of an experiment",
    lambda value: bool(TEXT.holds(value) and value and not {"..", ""} & {*value.split("/")}),
)
IDENTIFIED = with_keys(
    "", {**dict.fromkeys(("id", "signature", "source"), TEXT), "overrides": each(TEXT)}
)
SWEEP = Kind(
    "a sweep's id, signature, source and overrides, and nothing else",
    lambda value: IDENTIFIED.holds(value) and len(value) == 4,
)
TUNING = with_keys(
    "the experiment of the rates and its sweep",
    {"experiment": NAME, "sweep": or_null(TEXT)},
    {"runs": each(KEYS), "figure": TEXT, "departs": KEYS},
)
RUN: Kinds = {
    **dict.fromkeys(("name", "arm", "status", "signature", "source"), TEXT),
    "seed": COUNT,
}
RESULTS: Kinds = {  # of a finished run
    "overrides": KEYS,
    **dict.fromkeys(("parameters_sha256", "metrics_sha256", "samples_sha256"), TEXT),
    "held_out_sha256": or_null(TEXT),
    "n_params": COUNT,
    "metrics": NUMBERS,
    "curve": each(with_keys("an evaluation", dict.fromkeys(CURVE, NUMBER))),
    "samples": each(TEXT),
}
OWN: Kinds = {"removed": each(TEXT), "fingerprint": TEXTS}  # where it differs from the lock's
FACTS: Kinds = {
    "digest": TEXT,
    "experiment": NAME,
    "description": or_null(TEXT),
    "ablation": or_null(ASKED),
    "verdict": or_null(TEXT),
    "sweep": SWEEP,
    "tuning": or_null(TUNING),
    "config": KEYS,
    "data": with_keys("facts about documents", {"digest": TEXT, "documents": COUNT}),
    "fingerprint": TEXTS,
    "protocol": or_null(PROTOCOL),
    "files": TEXTS,
    "numbers": TEXT,
    "table": each(with_keys("an arm", {"arm": TEXT, "differs": KEYS})),
    "runs": each(KEYS),
    "robustness": each(with_keys("a verdict elsewhere", {"experiment": NAME})),
    "shares": KEYS,
    "took": each(KEYS),
    "words": each(TEXT),
}
NEUTRAL: dict[str, Any] = {
    "paths": {"outputs": "outputs"},
    "tracking": {"_target_": "microgpt.tracking.NoTracking"},
    "progress": False,
    "resume": None,
}
ASIDE = {*NEUTRAL, "hydra", "launcher", "skip", "sweep", "experiment", "description"}


def digest(content: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of a lock, its own digest left out."""
    return digest_of({key: value for key, value in content.items() if key != "digest"})


def text_of(content: Mapping[str, Any]) -> str:
    """The text of a lock's file, with the digest first."""
    whole = {"digest": digest(content), **content}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_lock(path: Path) -> dict[str, Any]:
    """Reads a lock. Raises BadRecord, also if its digest is of other content, or its schema another."""
    content = _intact(path)
    _check(content, path)
    return content


def read_earlier(path: Path) -> dict[str, Any]:
    """Reads a lock of this schema, or of the one before with what it did not have. Raises BadRecord."""
    content = _intact(path)
    if content.get("schema") == BEFORE:
        content = {"shares": {}, "took": [], "words": [], **content, "schema": SCHEMA}
    _check(content, path)
    return content


def _check(content: Mapping[str, Any], path: Path) -> None:
    """Raises BadRecord unless a lock is of this schema, and has what one must have."""
    check_schema(content, path)
    check(content, path, FACTS)
    for number, run in enumerate(content["runs"], 1):
        place = f"{path}: run {number}"
        check(run, place, RUN)
        if run["status"] == FINISHED:
            check(run, place, RESULTS, OWN)
    if not any(run["status"] == FINISHED for run in content["runs"]):
        raise BadRecord(path, "has no finished run")


def _intact(path: Path) -> dict[str, Any]:
    content = content_of(path)
    if content["digest"] != digest(content):
        raise BadRecord(path, "was changed by hand: its digest is of other content")
    return content


def content_of(path: Path) -> dict[str, Any]:
    """The content of a lock, whose digest may be another's. Raises BadRecord."""
    content = json_of(read_bytes(path), path)
    check(content, path, {"digest": TEXT})
    return content


def check_schema(content: Mapping[str, Any], path: Path) -> None:
    """Raises BadRecord for a lock of another schema; the first had no number."""
    found = content.get("schema", 1)
    if found != SCHEMA:
        words = f"{content.get('experiment', 'NAME')}{' --from-lock' * (found == BEFORE)}"
        way = f"`microgpt report {words}` writes it anew"
        raise BadRecord(
            path, f"is of schema {found}, and this version reads schema {SCHEMA}; {way}"
        )


def metrics_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the logged steps without clock times, each as a line of canonical JSON."""
    kept = [{key: v for key, v in row.items() if not key.startswith("cost/")} for row in rows]
    return sha256(
        "".join(json.dumps(row, sort_keys=True) + "\n" for row in kept).encode()
    ).hexdigest()


def curve_of(rows: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """The evaluations on a run's way."""
    return [{key: row[key] for key in CURVE} for row in rows if "val/loss" in row]


def held_out_sha256(found: HeldOut | None) -> str | None:
    """sha256 of the nats of the test documents; None if a run kept none."""
    return None if found is None else digest_of([found.targets_sha256, found.tokens, found.nats])


def neutral(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with neutral values for machine-specific keys."""
    return {**deepcopy(dict(config)), **deepcopy(NEUTRAL)}


def differences(config: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The `overrides`, and `removed` if any, that turn the base configuration into a run's."""
    base, wanted = _kept(config), _kept(own)
    changed = {k: v for k, v in wanted.items() if k not in base or not _same(base[k], v)}
    removed = [key for key in base if key not in wanted]
    return {"overrides": changed} | ({"removed": removed} if removed else {})


def config_of(content: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The complete configuration of a run in a lock. Raises BadValue for keys that it cannot have."""
    config: dict[str, Any] = deepcopy(content["config"])
    try:
        for key in run.get("removed", ()):
            _remove(config, key.split("."))
        for key, value in run["overrides"].items():
            *parents, last = key.split(".")
            _inside(config, parents)[last] = deepcopy(value)
    except (KeyError, TypeError, AttributeError) as error:
        allowed = "does not fit the lock's configuration"
        raise BadValue(f"{run['name']}: key", key, allowed) from error
    return config


def _remove(config: dict[str, Any], path: Sequence[str]) -> None:
    """Remove a value, and each mapping that is empty then: an empty one of the run's is an override."""
    first, *rest = path
    if rest:
        _remove(config[first], rest)
    if not rest or not config[first]:
        del config[first]


def _inside(config: dict[str, Any], parents: Iterable[str]) -> dict[str, Any]:
    for key in parents:
        config = config.setdefault(key, {})
    return config


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: v for key, v in leaves(config).items() if key.partition(".")[0] not in ASIDE}


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type: 1, 1.0 and true differ."""
    return type(one) is type(other) and bool(one == other)
