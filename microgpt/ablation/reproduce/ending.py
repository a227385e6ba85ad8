"""How a recorded run ended; its repetition must end in the same way."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microgpt.ablation.reproduce.replay import Again, Difference, Parted
from microgpt.core.events import Metrics
from microgpt.run.folder import RunFolder
from microgpt.run.record import FAILED, FINISHED, STOPPED

DIVERGED = re.compile(r"\S+ is (nan|inf|-inf)\b|the update left |no samples: ")


@dataclass(frozen=True)
class Ending:
    """The last step of a run, and how it ended."""

    folder: RunFolder
    step: int | None  # the last step; None: the last of the configuration
    cut: bool = False  # interrupted or killed before its samples were drawn
    failure: str = "none"  # the step and reason of a divergence

    @property
    def samples(self) -> bool:
        """Whether the record has samples of this ending; those of a run resumed and killed are older."""
        return not self.cut and self.failure == "none"

    def check(self, done: Again) -> None:
        """Raises Parted unless the repetition ended in the same way."""
        if _failure(vars(done)) != self.failure:
            raise Parted(unlike("the end", self.failure, _failure(vars(done))))
        if self.samples:
            _check_samples(self.folder, done.samples or [])
        recorded = self.folder.info.get("parameters_sha256")
        if recorded != done.parameters_sha256 and (recorded or self.samples):
            raise Parted(unlike("the parameters", recorded, done.parameters_sha256))


def ending(folder: RunFolder, rows: list[Metrics]) -> Ending:
    """The ending in run.json; a killed run ends with its last logged step."""
    info = folder.info
    if info["status"] == FINISHED:
        return Ending(folder, None)
    if info["status"] == STOPPED:
        step = int(info["stopped_at"].split()[1])
        meant = step == folder.config["trainer"]["stop_after"]
        return Ending(folder, step, not (meant and (folder.path / "samples.txt").exists()))
    if info["status"] == FAILED and diverged(info["reason"]):
        return Ending(folder, info["failed_at"], failure=_failure(info))
    return Ending(folder, int(rows[-1]["step"]) if rows else 1, cut=True)


def diverged(reason: str) -> bool:
    """Whether the reason is a divergence, as worded in `core/trainer.py`."""
    return DIVERGED.match(reason) is not None


def unlike(where: str, recorded: object, now: object) -> Difference:
    """The Difference between what is recorded and what was computed now."""
    return Difference(f"diverged in {where}", f"the record says {recorded}; trained again {now}")


def _failure(facts: Mapping[str, Any]) -> str:
    return "none" if facts["failed_at"] is None else f"step {facts['failed_at']}: {facts['reason']}"


def _check_samples(folder: RunFolder, samples: list[str]) -> None:
    """Raises Parted unless samples.txt contains these samples."""
    kept = folder.samples()
    for i, (old, new) in enumerate(zip(kept, samples), 1):
        if old != new:
            raise Parted(unlike(f"sample {i}", repr(old), repr(new)))
    if len(kept) != len(samples):
        raise Parted(unlike("the samples", f"{len(kept)} of them", f"{len(samples)}"))
