"""How a record says that a run ended, which its repetition must do likewise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microgpt.ablation.replay import Again, Difference, Parted
from microgpt.core.events import Metrics
from microgpt.run.folder import RunFolder
from microgpt.run.record import FAILED, FINISHED, STOPPED


@dataclass(frozen=True)
class Ending:
    """Where and how a run ended."""

    folder: RunFolder
    step: int | None  # the last one; None: where the configuration ends the run
    cut: bool = False  # ended there before its samples were drawn: interrupted, or killed
    failure: str = "none"  # of the figures

    @property
    def samples(self) -> bool:
        """Whether the record has samples of this end; a run resumed and killed may have older ones."""
        return not self.cut and self.failure == "none"

    def check(self, done: Again) -> None:
        """Raises Parted unless the run trained again ended so."""
        if _failure(vars(done)) != self.failure:
            raise Parted(unlike("the end", self.failure, _failure(vars(done))))
        if self.samples:
            _check_samples(self.folder, done.samples or [])
        recorded = self.folder.info.get("parameters_sha256")
        if recorded != done.parameters_sha256 and (recorded or self.samples):
            raise Parted(unlike("the parameters", recorded, done.parameters_sha256))


def ending(folder: RunFolder, rows: list[Metrics]) -> Ending:
    """What run.json says; a run that was killed is compared as far as its rows go."""
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
    """Whether it was the figures that ended a run: `core/trainer.py` words such reasons."""
    words = (" is nan", " is inf", " is -inf")
    return reason.startswith("no samples: ") or any(word in reason for word in words)


def unlike(where: str, recorded: object, now: object) -> Difference:
    """Two accounts of one thing."""
    return Difference(f"diverged in {where}", f"the record says {recorded}; trained again {now}")


def _failure(facts: Mapping[str, Any]) -> str:
    return "none" if facts["failed_at"] is None else f"step {facts['failed_at']}: {facts['reason']}"


def _check_samples(folder: RunFolder, samples: list[str]) -> None:
    """Raises Parted unless samples.txt holds these."""
    kept = folder.samples()
    for i, (old, new) in enumerate(zip(kept, samples), 1):
        if old != new:
            raise Parted(unlike(f"sample {i}", repr(old), repr(new)))
    if len(kept) != len(samples):
        raise Parted(unlike("the samples", f"{len(kept)} of them", f"{len(samples)}"))
