"""What is measured at the moment of a scrape? The inbox as it was last read, and the age of a worker's heartbeat."""

import time
from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

STALE_AFTER = 60.0  # seconds without a reading, after which the inbox's gauges are left out: old ones mislead


class InboxGauges:
    """The gauges of the inbox as they were last read: a scrape reads no table."""

    def __init__(self) -> None:
        self._read_at = float("-inf")
        self._values: dict[str, float] = {}

    def set(self, values: dict[str, float]) -> None:
        """Keep what was just read: `pending`, `failed`, `rejected`, `oldest_pending_seconds`, `workers_alive`.

        And `search_lag_seconds`, where that may be read.
        """
        self._values, self._read_at = values, time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges, or none if the last reading is old."""
        if time.monotonic() - self._read_at > STALE_AFTER:
            return
        rows = GaugeMetricFamily(
            "ticket_inbox_rows", "Inbox rows that are not promoted; counts to 100,000.", labels=["status"]
        )
        for status in ("pending", "failed", "rejected"):
            rows.add_metric([status], self._values[status])
        yield rows
        for name, what in (
            ("oldest_pending_seconds", "Age of the oldest pending inbox row; 0 where none is."),
            ("workers_alive", "Workers whose heartbeat is fresh."),
            ("search_lag_seconds", "Age of the oldest ticket that search does not find yet; 0 where none is."),
        ):
            if name not in self._values:
                continue
            yield GaugeMetricFamily(f"ticket_inbox_{name}", what, value=self._values[name])


class WorkerHeartbeat:
    """How long ago this process's worker last wrote a heartbeat; a server has no such gauge."""

    def __init__(self) -> None:
        self._age: Callable[[], float] | None = None

    def watch(self, age: Callable[[], float]) -> None:
        """Have each scrape ask `age`, in seconds."""
        self._age = age

    def collect(self) -> Iterable[Metric]:
        """Yield the gauge, if this process is a worker."""
        if self._age is not None:
            what = "Seconds since this worker last wrote a heartbeat; above 10 it promotes nothing."
            yield GaugeMetricFamily("ticket_inbox_worker_heartbeat_age_seconds", what, value=self._age())
