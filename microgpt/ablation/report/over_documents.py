"""Differences over seeds and documents, from the nats of every test document that the runs kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.ablation.records.sweep import Arm, Run
from microgpt.ablation.statistics.crossed import (
    Crossed,
    Floats,
    contributions,
    over_seeds_and_documents,
)


def crossed(arm: Arm, base: Arm, comparisons: int) -> Crossed | None:
    """The difference of an arm from its baseline, over their common seeds and all test documents.

    None with less than two of either, and where the two did not predict the same tokens.
    """
    ours, theirs = ({run.seed: run for run in one.finished if run.held_out} for one in (arm, base))
    seeds = sorted(ours.keys() & theirs.keys())
    runs = [*(ours[seed] for seed in seeds), *(theirs[seed] for seed in seeds)]
    kept = [run.held_out for run in runs if run.held_out]
    if len(seeds) < 2 or len({one.targets_sha256 for one in kept}) != 1 or len(kept[0].tokens) < 2:
        return None
    tokens = np.array(kept[0].tokens, dtype=np.float64)
    here, there = (_contributions(own, tokens) for own in (runs[: len(seeds)], runs[len(seeds) :]))
    return over_seeds_and_documents(here - there, comparisons)


def _contributions(runs: Sequence[Run], tokens: Floats) -> Floats:
    nats: Any = [run.held_out.nats for run in runs if run.held_out]
    return contributions(np.array(nats), tokens)
