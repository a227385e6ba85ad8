"""How many workers this machine has room for, and how large they may be."""

from contextlib import suppress
from pathlib import Path

import psutil

from microgpt.build import call
from microgpt.core.check import integer
from microgpt.terminal import ConfigError

AUTO = "auto"
CGROUPS = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"


def worker_count(workers: int | None) -> int:
    """`hydra.launcher.workers`, or one per core that this process may use. Raises ConfigError."""
    if workers is None:
        from dask.system import cpu_count  # it knows affinities and containers

        return cpu_count()
    call("hydra.launcher", integer, "workers", workers, 1)
    return workers


def memory_limit(limit: str, workers: int) -> int:
    """`hydra.launcher.memory_limit` in bytes; `auto` is a worker's share. Raises ConfigError."""
    if limit == AUTO:
        return _memory() // workers
    from dask.utils import parse_bytes

    if str(limit)[:1].isdigit():  # else Dask takes an empty text, and true, for one byte
        with suppress(ValueError, OverflowError):
            if (size := parse_bytes(str(limit))) > 0:
                return size
    raise ConfigError(f"hydra.launcher.memory_limit={limit}: must be a size, as 2GB, or auto")


def _memory() -> int:
    """Bytes of memory that this machine, or container, has."""
    sizes = [int(psutil.virtual_memory().total)]
    for file in CGROUPS:
        with suppress(OSError, ValueError):  # no container, or no limit
            sizes.append(int(Path(file).read_text()))
    return min(sizes)
