"""The protocol of a sweep that is about to begin."""

from collections.abc import Mapping, Sequence
from typing import Any

from microgpt.protocol.arms import Planned
from microgpt.protocol.protocol import check, check_part, content
from microgpt.protocol.section import question
from microgpt.run.sweep import joint
from microgpt.sweep.plan import Job


def asked_of(
    section: object, jobs: Sequence[Job], config: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The content of the protocol; None without an `ablation` section.

    Raises BadValue for a section that these jobs could not answer.
    """
    if section is None:
        return None
    asked, arms = question(section), planned(jobs)
    check(asked, arms)
    for job in jobs:
        check_part(asked, job.config)
    digests = {job.data for job in jobs}
    signature = joint([job.signature for job in jobs])
    digest = digests.pop() if len(digests) == 1 else None
    return content(asked, arms, signature, config["data"], digest)


def planned(jobs: Sequence[Job]) -> list[Planned]:
    """The arms of a sweep, in the order of its jobs."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.arm, []).append(job)
    return [
        Planned(
            name,
            {key: value for key, value in own[0].differs.items() if key != "seed"},
            [job.seed for job in own],
        )
        for name, own in groups.items()
    ]
