"""Judges claims: a file for each kind, which this imports so that `judge` knows it."""

from microgpt.ablation.claims import compared, every, optimum, power_law
from microgpt.ablation.claims.judging import Evidence, Evident, Judged, judge, judged

__all__ = [
    "Evidence",
    "Evident",
    "Judged",
    "compared",
    "every",
    "judge",
    "judged",
    "optimum",
    "power_law",
]
