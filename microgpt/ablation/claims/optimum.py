"""Judges that an inner arm beats both ends of an axis."""

from microgpt.ablation.claims.judging import FALSE, Evidence, Judged, judge
from microgpt.ablation.claims.pairs import Pair, claimed_of, compare, signed
from microgpt.ablation.statistics.verdict import Outcome, at_least
from microgpt.protocol.arms import along_axis
from microgpt.protocol.claims import Optimum


@judge.register
def _(claim: Optimum, evidence: Evidence) -> Judged:
    """The intervals of all comparisons hold together, so the best arm need not be known beforehand.

    Refuted: each inner arm falls short of at least one end. Of a monotone curve, it does.
    """
    first, *inner, last = along_axis(evidence.arms, evidence.axis)
    known = evidence, 2 * len(inner)
    pairs = [(compare(first, arm, *known), compare(last, arm, *known)) for arm in inner]
    flat = [one for pair in pairs for one in pair]
    if problems := [one for one in flat if isinstance(one, str)]:
        return Judged(Outcome.UNDECIDED, "; ".join(dict.fromkeys(problems)))
    told = [(a, b) for a, b in pairs if isinstance(a, Pair) and isinstance(b, Pair)]
    outcomes = [_inner(pair) for pair in told]
    best = max(told, key=lambda pair: min(one.together.mean for one in pair))
    claimed = claimed_of(claim, evidence.matters)
    # What falls short comes first.
    ends = sorted(best, key=lambda one: (_end(one) is Outcome.SUPPORTED, one.together.mean))
    because = f"the best inner arm is {ends[0].other.name}; "
    because += "; ".join(one.told(one.together, _end(one), claimed) for one in ends)
    if Outcome.SUPPORTED in outcomes:
        return Judged(Outcome.SUPPORTED, because)
    refuted = set(outcomes) == {Outcome.REFUTED}
    return Judged(Outcome.REFUTED if refuted else Outcome.UNDECIDED, because)


def _inner(pair: tuple[Pair, Pair]) -> Outcome:
    """Whether an inner arm beats both ends."""
    ends = {_end(one) for one in pair}
    if ends == {Outcome.SUPPORTED}:
        return Outcome.SUPPORTED
    return Outcome.REFUTED if ends & FALSE else Outcome.UNDECIDED


def _end(one: Pair) -> Outcome:
    """Whether an end is worse than an inner arm."""
    return at_least(*signed(one.together, 1), one.matters)
