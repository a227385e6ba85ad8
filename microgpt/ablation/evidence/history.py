"""Which protocol a verdict belongs to, and which protocols and verdicts of the experiment came before."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.ablation.evidence.lock import content_of, digest
from microgpt.ablation.records.store import spec_of
from microgpt.ablation.records.sweep import Sweep
from microgpt.core.check import BadValue
from microgpt.protocol.claims import claim
from microgpt.run.reading import KEYS, TEXT, BadRecord, Kinds, check, or_null, with_keys

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as Stored

Told = dict[str, Any]  # digest, time, claim, verdict, because, sweep
TOLD: Kinds = {
    "sweep": with_keys("a sweep", {"id": TEXT}),
    "ablation": or_null(KEYS),
    "verdict": or_null(TEXT),
}
NONE = "none"  # for a claim that was not made


def protocol_entry(sweep: Sweep, baseline: str) -> dict[str, Any] | None:
    """The frozen protocol, and how many of the runs that it judges had ended before; None if none was.

    `known_before` are those of other arms than the baseline: its own, `known_of_baseline`, alone show no
    difference.
    """
    if sweep.protocol is None:
        return None
    frozen = datetime.fromisoformat(sweep.protocol["time"]).timestamp()
    known = [
        run.arm == baseline
        for run in sweep.runs
        if run.ended is not None and run.status == "finished" and run.ended < frozen
    ]
    return {
        **sweep.protocol,
        "known_before": len(known) - sum(known),
        "known_of_baseline": sum(known),
    }


def verdict_tag(digest: str) -> str:
    """The tag of a sweep's run in a store that has the verdict under a protocol."""
    return f"verdict.{digest[:12]}"


def told_before(client: "MlflowClient", experiment: str | None) -> list[Told]:
    """The protocols of an experiment in the store, each with its verdict, if it was reported."""
    if experiment is None:
        return []
    homes = [str(found.experiment_id) for found in client.search_experiments()]
    query = f"tags.`sweep.experiment` = '{experiment.replace(chr(39), '')}'"
    return [
        _told(parent, frozen)
        for parent in client.search_runs(homes, query)
        for frozen in _protocols(client, parent)
    ]


def _protocols(client: "MlflowClient", parent: "Stored") -> list[dict[str, Any]]:
    """The frozen protocols of a sweep; none if its record is not there, or damaged."""
    try:
        said, _ = spec_of(client, parent)
    except (BadValue, BadRecord):
        return []
    return list(said.get("protocols", []))


def _told(parent: "Stored", frozen: Mapping[str, Any]) -> Told:
    said = parent.data.tags.get(verdict_tag(frozen["digest"]), "")
    verdict, _, because = said.partition(": ")
    return {
        "digest": frozen["digest"],
        "time": frozen["time"],
        "claim": words(frozen["content"].get("claim")),
        "verdict": verdict or None,
        "because": because or None,
        "sweep": parent.data.tags["sweep.id"],
    }


def earlier_in(path: Path) -> list[Told]:
    """The verdict of a lock that is to be replaced, and those before it; of whatever version it is."""
    try:
        old = content_of(path)
        check(old, path, TOLD)
    except BadRecord:
        return []
    if old["digest"] != digest(old):  # changed by hand
        return []
    asked, protocol = old.get("ablation") or {}, old.get("protocol") or {}
    own = {
        "digest": protocol.get("digest", ""),
        "time": protocol.get("time", ""),
        "claim": words(asked.get("claim")),
        "verdict": old.get("verdict"),
        "because": old.get("because"),
        "sweep": old["sweep"]["id"],
    }
    return [*old.get("earlier", []), *([own] if own["verdict"] else [])]


def merged(lock: Mapping[str, Any], *told: Iterable[Told]) -> list[Told]:
    """What came before the protocol of a lock, by time; once for each sweep."""
    now = lock["protocol"] or {"digest": "", "time": "9999"}
    current = now["digest"], lock["sweep"]["id"]
    found: dict[tuple[str, str], Told] = {}
    for one in (one for each in told for one in each):
        place = one["digest"], one["sweep"]
        if (
            place != current
            and one["time"] <= now["time"]
            and (one["verdict"] or place not in found)
        ):
            found[place] = dict(one)
    return sorted(found.values(), key=lambda one: (one["time"], one["sweep"]))


def words(stated: Any) -> str:
    """A claim in words; what can no longer be read, as it was written."""
    if not stated:
        return NONE
    try:
        return str(claim(stated))
    except (BadValue, AttributeError):
        return str(stated)
