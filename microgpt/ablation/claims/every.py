"""Judges that all of several claims hold."""

from microgpt.ablation.claims.judging import Evidence, Judged, judge, together
from microgpt.protocol.claims import All


@judge.register
def _(claim: All, evidence: Evidence) -> Judged:
    each = [judge(one, evidence) for one in claim.claims]
    told = [
        f"'{one}' is {found.verdict}: {found.because}" for one, found in zip(claim.claims, each)
    ]
    return Judged(together([found.verdict for found in each]), "; ".join(told))
