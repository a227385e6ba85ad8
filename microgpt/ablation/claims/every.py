"""Judges that all of several claims hold."""

from collections.abc import Sequence
from dataclasses import replace

from microgpt.ablation.claims.judging import Evidence, Judged, judge, together
from microgpt.ablation.statistics.summary import Summary
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.protocol.claims import All, Claim


@judge.register
def _(claim: All, evidence: Evidence) -> Judged:
    """All must hold, which needs no correction; that any does not is enough, which needs it.

    So a part is supported by its own interval, and falls short by intervals that hold together over the
    parts. A power law has one interval, its own.
    """
    each = [_part(one, evidence, len(claim.claims)) for one in claim.claims]
    told = [
        f"'{one}' is {found.verdict}: {found.because}" for one, found in zip(claim.claims, each)
    ]
    return Judged(together([found.verdict for found in each]), "; ".join(told))


def _part(claim: Claim, evidence: Evidence, parts: int) -> Judged:
    """What is said of a part: as of a claim by itself if it holds, else with the correction."""

    def interval(values: Sequence[float], comparisons: int = 1) -> Summary:
        return evidence.interval(values, comparisons * parts)

    alone = judge(claim, evidence)
    if alone.verdict is Outcome.SUPPORTED:
        return alone
    return judge(claim, replace(evidence, interval=interval))
