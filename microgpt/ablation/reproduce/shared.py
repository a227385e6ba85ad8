"""Runs that several locks have, so that one command trains each of them again once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.ablation.evidence.lock import config_of
from microgpt.ablation.report.index import marks_in
from microgpt.protocol.protocol import digest_of
from microgpt.run.held_out import HeldOut
from microgpt.run.record import FINISHED

RESULTS: tuple[str, ...] = (
    "signature",
    "source",
    "parameters_sha256",
    "n_params",
    "metrics",
    "curve",
)
RESULTS += ("metrics_sha256", "samples_sha256", "held_out_sha256", "samples")


@dataclass(frozen=True)
class Found:
    """A run that was bit-exact: the experiment it was trained again for, and its nats."""

    experiment: str
    parameters: str
    held_out: HeldOut | None


class Shared:
    """The runs of some locks that were found bit-exact, of those that several locks have."""

    def __init__(self, locks: Iterable[Path]) -> None:
        counts = Counter(mark for lock in locks for mark in marks_in(lock))
        self._several = {mark for mark, count in counts.items() if count > 1}
        self._found: dict[str, Found] = {}

    def find(self, lock: Mapping[str, Any], run: Mapping[str, Any]) -> Found | None:
        """The same run with the same results, if it was found before.

        None for a run whose signature is not checked against its configuration: see contradictions.py.
        """
        if run["signature"] not in self._several or not _is_checked(lock, run):
            return None
        return self._found.get(_key(run))

    def add(
        self, lock: Mapping[str, Any], run: Mapping[str, Any], held_out: HeldOut | None
    ) -> None:
        """A run that was bit-exact."""
        if run["signature"] in self._several:
            parameters = run["parameters_sha256"]
            self._found[_key(run)] = Found(lock["experiment"], parameters, held_out)


def _is_checked(lock: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    first = next(one for one in lock["runs"] if one["status"] == FINISHED)
    return bool(config_of(lock, run)["engine"] == config_of(lock, first)["engine"])


def _key(run: Mapping[str, Any]) -> str:
    """What was asked and all that was answered."""
    return digest_of({key: run[key] for key in RESULTS})
