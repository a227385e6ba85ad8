"""Runs that several locks have, so that one command trains each of them again once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt.ablation.report.index import marks_in
from microgpt.protocol.protocol import digest_of
from microgpt.run.held_out import HeldOut
from microgpt.run.record import FINISHED

RESULTS = (
    *("signature", "source", "parameters_sha256", "n_params", "metrics", "curve"),
    *("metrics_sha256", "samples_sha256", "held_out_sha256", "samples"),
)


@dataclass(frozen=True)
class Found:
    """A run that was bit-exact: the experiment it was trained again for, and its nats."""

    experiment: str
    parameters: str
    held_out: HeldOut | None


class Shared:
    """The runs of some locks that were found bit-exact, until the last lock that has them is done."""

    def __init__(self, locks: Iterable[Path]) -> None:
        self._left = Counter(mark for lock in locks for mark in marks_in(lock))  # locks to come
        self._found: dict[str, Found] = {}

    def find(self, lock: Mapping[str, Any], run: Mapping[str, Any]) -> Found | None:
        """The same run with the same results, if it was found before.

        None for a run whose signature is not checked against its configuration: see contradictions.py.
        """
        if run["signature"] not in self._left or not _is_checked(lock, run):
            return None
        found = self._found.get(_key(run))
        if found:
            self._keep(run, found)
        return found

    def add(
        self, lock: Mapping[str, Any], run: Mapping[str, Any], held_out: HeldOut | None
    ) -> None:
        """A run that was bit-exact."""
        self._keep(run, Found(lock["experiment"], run["parameters_sha256"], held_out))

    def _keep(self, run: Mapping[str, Any], found: Found) -> None:
        """For the locks to come, if there are any."""
        self._left[run["signature"]] -= 1
        if self._left[run["signature"]] > 0:
            self._found[_key(run)] = found
        else:
            self._found.pop(_key(run), None)


def _is_checked(lock: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    first = next(one for one in lock["runs"] if one["status"] == FINISHED)
    return _engine(run) == _engine(first)


def _engine(run: Mapping[str, Any]) -> list[Any]:
    """How a run's configuration differs in its engine from that of its lock."""
    keys = sorted(key for key in run["overrides"] if key.partition(".")[0] == "engine")
    removed = [key for key in run.get("removed", ()) if key.partition(".")[0] == "engine"]
    return [removed, *((key, run["overrides"][key]) for key in keys)]


def _key(run: Mapping[str, Any]) -> str:
    """What was asked and all that was answered."""
    return digest_of({key: run[key] for key in RESULTS})
