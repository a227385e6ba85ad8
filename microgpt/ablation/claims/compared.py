"""Judges that some arms are worse than another, better, or as good."""

from microgpt.ablation.claims.judging import Evidence, Judged, judge, together
from microgpt.ablation.claims.pairs import Pair, claimed_of, compare, signed
from microgpt.ablation.statistics.summary import Summary
from microgpt.ablation.statistics.verdict import Outcome, at_least, equal
from microgpt.protocol.arms import one_arm
from microgpt.protocol.claims import Better, Compared, Equal


@judge.register
def _(claim: Compared, evidence: Evidence) -> Judged:
    """All must hold, which needs no correction; that any does not is enough, which needs it."""
    than, matters = claim.than, evidence.matters
    other = one_arm(evidence.arms, than, "ablation.claim.than") if than else evidence.baseline
    arms = [one_arm(evidence.arms, wanted, "ablation.claim.arms") for wanted in claim.arms]
    compared = [compare(arm, other, evidence, len(arms)) for arm in arms]
    if problems := [one for one in compared if isinstance(one, str)]:
        return Judged(Outcome.UNDECIDED, "; ".join(problems))
    outcomes, told, claimed = [], [], claimed_of(claim, matters)
    for one in compared:
        assert isinstance(one, Pair)
        outcome, shown = _outcome(claim, one.alone, matters), one.alone
        if outcome is not Outcome.SUPPORTED:
            outcome, shown = _outcome(claim, one.together, matters), one.together
        outcomes.append(outcome)
        told.append((outcome is Outcome.SUPPORTED, one.told(shown, outcome, claimed)))
    told.sort(key=lambda pair: pair[0])  # what falls short comes first
    return Judged(together(outcomes), "; ".join(text for _, text in told))


def _outcome(claim: Compared, difference: Summary, matters: float) -> Outcome:
    if isinstance(claim, Equal):
        return equal(*signed(difference, 1), matters)
    return at_least(*signed(difference, -1 if isinstance(claim, Better) else 1), matters)
