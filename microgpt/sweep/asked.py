"""The protocol of a sweep that is about to begin."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.core.check import BadValue
from microgpt.protocol.arms import planned
from microgpt.protocol.protocol import SPLIT, check, check_part, content
from microgpt.protocol.section import question
from microgpt.protocol.stopping import begins
from microgpt.sweep.plan import Job


def asked_of(
    section: object, jobs: Sequence[Job], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The content of the protocol; None without an `ablation` section.

    Raises BadValue for a section that these jobs could not answer.
    """
    if section is None:
        return None
    facts = [job.facts for job in jobs]
    asked, arms = question(section), planned(facts)
    check(asked, arms)
    for job in jobs:
        check_part(asked, job.config)
    check_held_out(jobs)
    signature = begins(asked.stopping, facts)["signature"]
    return content(asked, arms, signature, config["data"], jobs[0].data)


def check_held_out(jobs: Sequence[Job]) -> None:
    """Raises BadValue if jobs are evaluated on other documents than the first."""
    first = evaluated_on(jobs[0])
    for job in jobs:
        own = evaluated_on(job)
        if other := [key for key in own if own[key] != first[key]]:
            allowed = "must be the same for all runs, or their losses are of different documents"
            raise BadValue(other[0], own[other[0]], allowed)


def evaluated_on(job: Job) -> dict[str, Any]:
    """What decides on which documents a job is evaluated."""
    data = {f"data.{key}": job.config["data"].get(key) for key in SPLIT}
    return data | {
        "data": job.data,
        "trainer.eval_documents": job.config["trainer"]["eval_documents"],
    }
