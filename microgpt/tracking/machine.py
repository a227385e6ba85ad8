"""How busy the machine is, as MLflow's system metrics have it: with all that runs on it."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from time import time
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from mlflow.entities import Metric

CPU = "cpu_utilization_percentage"
IDLE = ("idle", "iowait")
COUNTED = ("guest", "guest_nice")  # in `user` and `nice` already


class Machine:
    """What there is to tell of a machine since the reading `before`, once a second at most.

    The monitors are MLflow's, without its thread, which ends where a store does not answer once.
    They are made for the first reading: before it, MLflow may not be imported. `step` is the seconds since
    the run began. Of the processors MLflow's monitor tells what they did since the last look of the same
    thread, here of another run perhaps: so we count ourselves.
    """

    def __init__(self, before: Mapping[str, float]) -> None:
        """`before` is what `processors` said when the run began to be sent."""
        self._step = -1
        self._monitors: list[Any] = []
        self._before = before

    def metrics(self, begun: float) -> "list[Metric]":
        """A reading for the store, of a run that began then."""
        from mlflow.entities import Metric

        now = time()
        before, self._step = self._step, int(now - begun)
        if self._step == before:
            return []
        values: dict[str, float] = {}
        self._monitors = self._monitors or list(_monitors())
        for monitor in self._monitors:
            with suppress(Exception):  # it is no matter of the run's
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
        values[CPU] = self._busy()
        return [
            Metric(f"system/{name}", value, round(now * 1000), self._step)
            for name, value in values.items()
        ]

    def _busy(self) -> float:
        """The share of time that the processors were busy since this was last asked, in percent."""
        before, self._before = self._before, processors()
        spent = {key: self._before[key] - before[key] for key in before if key not in COUNTED}
        idle = sum(spent.get(key, 0.0) for key in IDLE)
        share: float = 1 - idle / (sum(spent.values()) or 1.0)
        return round(100 * share, 1)


def processors() -> dict[str, float]:
    """What the processors did since the machine began: seconds of each kind."""
    return psutil.cpu_times()._asdict()  # type: ignore[no-any-return]


def _monitors() -> Iterator[Any]:
    """MLflow's monitors that find on this machine what they look for."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    for monitor in (CPUMonitor, DiskMonitor, NetworkMonitor):
        with suppress(Exception):  # a container may have no network
            yield monitor()
