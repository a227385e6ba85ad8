"""Intervals over seeds and documents: both are samples, every seed is evaluated on every document.

The model is d[s][i] = mean + seed_s + document_i + rest_si, with crossed random effects. Its variances are
estimated by moments, from the mean squares of a two-way table; the degrees of freedom are Satterthwaite's.
Source: Searle, Casella & McCulloch (1992), Variance Components, chapter 4; Satterthwaite (1946), Biometrics
Bulletin 2(6), 110-114. Loss is a ratio, nats per token; its difference is linearised for each document:
Cochran (1977), Sampling Techniques, chapter 6.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.ablation.statistics.summary import LEVEL

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Crossed:
    """A mean difference, its 95 % interval over seeds and documents, and where its variance comes from.

    `seed`, `document` and `rest` are the standard deviations of the three effects.
    """

    seeds: int
    documents: int
    mean: float
    low: float
    high: float
    df: float
    seed: float
    document: float
    rest: float


def contributions(nats: Floats, tokens: Floats) -> Floats:
    """What each document contributes to the loss of each seed, `[seeds][documents]`.

    nats    `[seeds][documents]`, of all predicted tokens of a document
    tokens  `[documents]`, the numbers of predicted tokens
    The mean over documents is the loss in nats per token. The variance over documents is that of the
    ratio of the two sums, which a long document affects only if it is unusual.
    """
    loss = nats.sum() / (len(nats) * tokens.sum())
    return np.asarray(loss + (nats - loss * tokens) / tokens.mean())


def over_seeds_and_documents(differences: Floats, comparisons: int = 1) -> Crossed:
    """The interval over seeds and documents of `[seeds][documents]` differences, two or more of each."""
    from scipy.special import stdtrit

    seeds, documents = differences.shape
    mean = differences.mean()
    of_seed, of_document = differences.mean(axis=1) - mean, differences.mean(axis=0) - mean
    rest = differences - mean - of_seed[:, None] - of_document
    free = np.array([seeds - 1, documents - 1, (seeds - 1) * (documents - 1)])
    sums = [documents * (of_seed**2).sum(), seeds * (of_document**2).sum(), (rest**2).sum()]
    squares = np.array(sums) / free  # mean squares; an effect below that of the rest counts as none
    effects = squares[:2] > squares[2]
    terms = np.array([*effects, 1 - effects.sum()]) * squares
    variance = terms.sum() / (seeds * documents)
    spread = (terms**2 / free).sum()
    df = terms.sum() ** 2 / spread if spread else float(free[2])
    half = float(stdtrit(df, 1 - LEVEL / comparisons / 2)) * np.sqrt(variance)
    excess = np.maximum(squares[:2] - squares[2], 0.0) / [documents, seeds]
    sds = map(float, np.sqrt([*excess, squares[2]]))
    return Crossed(
        seeds, documents, float(mean), float(mean - half), float(mean + half), float(df), *sds
    )
