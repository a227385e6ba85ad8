"""Judges the exponent and the bend of a power law."""

from microgpt.ablation.claims.judging import Evidence, Judged, judge, together
from microgpt.ablation.statistics.verdict import Outcome
from microgpt.protocol.claims import PowerLaw


@judge.register
def _(claim: PowerLaw, evidence: Evidence) -> Judged:
    fit = evidence.fit
    if fit is None or fit.exponent.low is None or fit.exponent.high is None:
        return Judged(Outcome.UNDECIDED, "there is no fit with an interval")
    low, high = fit.exponent.low, fit.exponent.high
    inside, outside = claim.low <= low and high <= claim.high, high < claim.low or low > claim.high
    each = [Outcome.SUPPORTED if inside else Outcome.REFUTED if outside else Outcome.UNDECIDED]
    because = f"The exponent is {fit.exponent.mean:.4f} (95 % {low:.4f} to {high:.4f}), where "
    because += f"{claim.low:g} to {claim.high:g} was claimed: {each[0]}"
    if claim.bend:
        opposite = {"flattens": "steepens", "steepens": "flattens"}[claim.bend]
        known = {claim.bend: Outcome.SUPPORTED, opposite: Outcome.OPPOSITE}
        each.append(known.get(fit.word, Outcome.UNDECIDED))
        because += (
            f"; the law {fit.word} (coefficient {fit.bend.mean:+.4f}, 95 % {fit.bend.low:+.4f} "
        )
        because += f"to {fit.bend.high:+.4f}), where '{claim.bend}' was claimed: {each[1]}"
    return Judged(together(each), because)
