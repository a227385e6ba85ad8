"""What the arms write: some samples of each, and how many of them are new."""

from collections.abc import Mapping
from typing import Any

from microgpt.ablation.records.sweep import Arm
from microgpt.ablation.report.render import count
from microgpt.ablation.report.splits import Splits

SHOWN = 8  # samples of an arm, the first of its lowest seed: nobody chose them


def sampled(arm: Arm, splits: Splits) -> dict[str, Any] | None:
    """The samples of an arm's finished runs; None if none were drawn.

    `memorised` are documents of the training part, `held_out` those of the other parts, `novel` neither;
    None where a sample is no document, in running text, and where the documents are not known.
    """
    drawn = [
        (run, text) for run in sorted(arm.finished, key=lambda r: r.seed) for text in run.samples
    ]
    if not drawn:
        return None
    first = drawn[0][0]
    found: dict[str, Any] = {
        "seed": first.seed,
        "shown": list(first.samples[:SHOWN]),
        "drawn": len(drawn),
        "temperature": first.config.get("sampling", {}).get("temperature"),
    }
    places = [_place(text, run.config, splits) for run, text in drawn]
    counts = {name: places.count(name) for name in ("novel", "memorised", "held_out")}
    return found | (dict.fromkeys(counts) if None in places else counts)


def _place(text: str, config: Mapping[str, Any], splits: Splits) -> str | None:
    parts = splits.sets(config)
    if parts is None:
        return None
    train, others = parts
    return "memorised" if text in train else "held_out" if text in others else "novel"


def by_chance(lock: Mapping[str, Any]) -> str:
    """What the shares of samples are to be compared with; empty without documents of known numbers."""
    data = lock["data"]
    train, others = (
        sum(data.get(f"{part}_documents", 0) for part in parts)
        for parts in (["train"], ["val", "test"])
    )
    if not train or not others:
        return ""
    return (
        f" The parts have {count(train)} and {count(others)} documents: a model that remembers none writes "
        f"{train / others:.1f} times as many of the first as of the second, on average. Only documents "
        "that a run came to can be remembered."
    )
