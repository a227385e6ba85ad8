"""The folder of a sweep. Its runs are in the same folder as all other runs.

sweep.json    the swept keys, the base configuration, the jobs, the status
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from microgpt.run.facts import SWEEP_FACTS, SWEEP_OTHERS
from microgpt.run.folder import RunFolder
from microgpt.run.reading import stat_of
from microgpt.run.record import Record, begin_of

KEY = 12, 8  # digits of signature and source in the name of a run's folder


class Held(NamedTuple):
    """A record that was read."""

    version: tuple[int, ...]  # of its file
    info: dict[str, Any]
    jobs: dict[str, dict[str, Any]]  # by the names of their folders


class SweepFolder(Record):
    """Reads and writes the record of a sweep."""

    FILE, REQUIRED, OTHERS = "sweep.json", SWEEP_FACTS, SWEEP_OTHERS

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._held: Held | None = None  # of a thousand jobs, half a megabyte

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        """To another process goes the path."""
        return type(self), (self.path,)

    @property
    def info(self) -> dict[str, Any]:
        """The facts."""
        return dict(self._fresh().info)

    @property
    def version(self) -> tuple[int, ...]:
        """What differs once the record has changed: the inode, size and time of its file."""
        found = stat_of(self._file)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _fresh(self) -> Held:
        """What the file says, read again if it has changed."""
        held, version = self._held, self.version
        if held is None or held.version != version:
            held = self._held = None  # first: two records of many jobs are much
            info = super().info
            held = self._held = Held(version, info, {job["run"]: job for job in info["jobs"]})
        return held

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The facts of each job: `run`, `name`, `arm`, `seed`, `differs`, `overrides`, identity."""
        jobs: list[dict[str, Any]] = self.info["jobs"]
        return jobs

    def job(self, run: str) -> dict[str, Any]:
        """The job whose run folder is named `run`."""
        return self._fresh().jobs[run]

    def run(self, job: Mapping[str, Any]) -> RunFolder:
        """The run folder of a job."""
        return RunFolder(self.path.parent.parent / "runs" / job["run"])

    @property
    def protocol(self) -> dict[str, Any] | None:
        """The frozen protocol of the latest start; None without a question."""
        info = self.info
        frozen: list[dict[str, Any]] = info.get("protocols", [])
        return next((one for one in frozen if one["digest"] == info.get("protocol")), None)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the jobs start from."""
        config: dict[str, Any] = self.info["config"]
        return config

    @property
    def ended(self) -> float:
        """When it ended, in seconds since 1970; if it was killed, when it last wrote its record."""
        return float(self.info.get("ended") or stat_of(self._file).st_mtime)


def key(signature: str, source: str) -> str:
    """The folder name of the run with this signature and source."""
    return f"{signature[: KEY[0]]}-{source[: KEY[1]]}"


def identity_of(jobs: Sequence[Mapping[str, Any]], kind: str = "") -> dict[str, str]:
    """The signature and the source of a sweep of these jobs, or of one that begins with them.

    kind  tells it from another sweep of the same jobs
    """
    found = {part: joint([job[part] for job in jobs]) for part in ("signature", "source")}
    return found | ({"signature": joint([kind, found["signature"]])} if kind else {})


def joint(digests: Sequence[str]) -> str:
    """One digest of a set of digests, independent of their order."""
    return sha256("\n".join(sorted(set(digests))).encode()).hexdigest()


def sweep_folder(outputs: Path, sweep: str) -> SweepFolder:
    """The folder of a sweep."""
    return SweepFolder(outputs / "sweeps" / sweep)


def all_sweeps(outputs: Path) -> list[SweepFolder]:
    """All sweep folders below `outputs`, the oldest first; damaged ones are the last."""
    files = outputs.glob("sweeps/*/sweep.json")
    return sorted([SweepFolder(file.parent) for file in files], key=begin_of)
