"""A protocol: all that may change a verdict, checked and frozen before the first run, named by a digest.

`content` has what the section says but for its prose about limits, the arms and seeds that the sweep
trains, the data, and the signature of all its runs, which stands for everything else that is configured.
Frozen, it is `{digest, time, commit, content}`; a sweep keeps every protocol that it was started with.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import product
from typing import Any

from microgpt.core.check import BadValue
from microgpt.protocol.arms import Planned, one_arm
from microgpt.protocol.claims import claim
from microgpt.protocol.section import Question, scalar
from microgpt.protocol.stopping import FIXED, looks

SPLIT = ("val_fraction", "test_fraction", "split", "split_seed")  # keys of `data`
SIZES = 3  # arms that a power law is fitted through, at least
TRIAL = "a trial without a question has hydra.sweeper.ablation=null"
Frozen = Mapping[str, Any]


def check(asked: Question, arms: Sequence[Planned]) -> None:
    """Raises BadValue unless a sweep of these arms can answer the question."""
    one_arm(arms, asked.baseline, "ablation.baseline")
    if alone := [arm for arm in arms if len(set(arm.seeds)) < 2]:
        allowed = f"must be two or more, of which {alone[0].name} has not; {TRIAL}"
        raise BadValue("seed", list(alone[0].seeds), allowed)
    if asked.axis is not None:
        places = [arm.differs.get(asked.axis) for arm in arms]
        if None in places:
            raise BadValue("ablation.axis", asked.axis, "must be a key that all arms differ in")
        if asked.of_rates and not all(isinstance(scalar(place), float) for place in places):
            raise BadValue("ablation.axis", asked.axis, "must have numbers: it is a learning rate")
    if asked.stopping != FIXED:
        _check_sequence(asked, arms)
    if asked.fit and len(arms) < SIZES:
        raise BadValue("ablation.fit", asked.fit, f"needs {SIZES} arms, not {len(arms)}")
    if asked.claim is not None:
        claim(asked.claim).check(asked, arms)


def _check_sequence(asked: Question, arms: Sequence[Planned]) -> None:
    """Raises BadValue unless seeds can be added to all arms alike."""
    if any({*arm.seeds} != {*arms[0].seeds} for arm in arms):
        raise BadValue("ablation.stopping", asked.stopping, "needs the same seeds for all arms")
    if asked.fit:
        allowed = (
            "must be fixed with ablation.fit: a power law has no interval that holds at any time"
        )
        raise BadValue("ablation.stopping", asked.stopping, allowed)


def check_part(asked: Question, config: Mapping[str, Any]) -> None:
    """Raises BadValue unless runs of this configuration are evaluated on the part that judges."""
    data, trainer = config["data"], config["trainer"]
    key = "test_fraction" if asked.part == "test" else "val_fraction"
    needed = f"must be above 0: the {asked.part} part judges (ablation.part); {TRIAL}"
    if not data.get(key):
        raise BadValue(f"data.{key}", data.get(key), needed)
    if asked.part == "validation" and not trainer["eval_documents"]:
        raise BadValue("trainer.eval_documents", trainer["eval_documents"], needed)


def content(
    asked: Question,
    arms: Sequence[Planned],
    signature: str,
    data: Mapping[str, Any],
    digest: str,
) -> dict[str, Any]:
    """The content of a protocol.

    signature  that of the sweep
    data       the section of the configuration that all runs share
    digest     of the documents
    """
    seeds = sorted({seed for arm in arms for seed in arm.seeds})
    said = {
        key: " ".join(getattr(asked, key).split()) for key in ("question", "source", "expectation")
    }
    return said | {
        "claim": plain(asked.claim),
        "matters": float(asked.matters),
        "baseline": plain(asked.baseline),
        "arms": words_of(arms),
        "seeds": seeds,
        "stop": stop_of(asked, seeds),
        "part": asked.part,
        "figure": asked.figure,
        "data": {"digest": digest, **{key: data[key] for key in SPLIT if key in data}},
        "axis": asked.axis,
        "tuning": asked.tuning,
        "fit": asked.fit,
        "robustness": list(asked.robustness),
        "signature": signature,
    }


def stop_of(asked: Question, seeds: Sequence[int]) -> str | dict[str, Any]:
    """When the sweep ends: `fixed`, or the rule with the numbers of seeds at which it may."""
    if asked.stopping == FIXED:
        return FIXED
    return {"rule": asked.stopping, "looks": [len(own) for own in looks(asked.stopping, seeds)]}


def words_of(arms: Sequence[Planned]) -> dict[str, str] | list[dict[str, str]]:
    """`{key: "1,2,4"}` for a whole grid, else each arm's keys and values."""
    keys = list(dict.fromkeys(key for arm in arms for key in arm.differs))
    values = {
        key: list(dict.fromkeys(arm.differs[key] for arm in arms if key in arm.differs))
        for key in keys
    }
    whole = [dict(zip(keys, choice)) for choice in product(*values.values())]
    given = [dict(arm.differs) for arm in arms]
    if given == whole:
        return {key: ",".join(found) for key, found in values.items()}
    return given


def plain(value: Any) -> Any:
    """A value of a section as JSON has it."""
    return json.loads(json.dumps(value))


def digest_of(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def frozen(known: Sequence[Frozen], said: Mapping[str, Any], commit: str | None) -> list[Frozen]:
    """The protocols of a sweep that starts with the content `said`, which is the last of them.

    One that the sweep knows keeps the time at which it was frozen first.
    """
    digest = digest_of(said)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    new = {"digest": digest, "time": now, "commit": commit, "content": dict(said)}
    old = [one for one in known if one["digest"] == digest]
    return [*(one for one in known if one["digest"] != digest), *(old[:1] or [new])]
