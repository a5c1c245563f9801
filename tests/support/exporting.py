"""Export from the tests' own process, as a server does, and see what is sent, counted and logged."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.trace import SpanKind
from prometheus_client import REGISTRY

from otel import export, logs, tracing
from otel.tracing import Failure
from tests.support.otlp_received import Receiver


class Exporting:
    """One process' exports, from `configure` to `stop`."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._before: dict[tuple[str, str, str], float] = {}
        self._before = self._counters()
        self.lines: list[dict[str, Any]] = []
        self._stops = [export.configure("ticket-inbox-server", environ)]

    def stop(self) -> None:
        """Stop the exports, once."""
        while self._stops:
            self._stops.pop()()

    def record(self, *numbers: int, error: Failure | None = None) -> None:
        """Record one span for each number, which is its ticket's id."""
        for number in numbers:
            position, identity = tracing.position_in_new_trace(), {"ticket_id": str(number)}
            tracing.record(position, "test", SpanKind.SERVER, time.time_ns(), identity, error=error)

    def count(self, name: str, signal: str = "traces") -> int:
        """Return how far `success`, `failure`, `retried` or `dropped` went up since the beginning."""
        key = ("exported", name) if name in {"success", "failure"} else (name, "")
        return int(self._counters().get((*key, signal), 0))

    def counts(self, signal: str = "traces") -> dict[str, int]:
        """Return the counters that went up, but for the tries that were repeated."""
        found = {name: self.count(name, signal) for name in ("success", "failure", "dropped")}
        return {name: count for name, count in found.items() if count}

    def _counters(self) -> dict[tuple[str, str, str], float]:
        return {
            (key := (family.name.rpartition("_")[2], sample.labels.get("outcome", ""), sample.labels["signal"])): (
                sample.value - self._before.get(key, 0)
            )
            for family in REGISTRY.collect()
            if family.name.startswith("ticket_inbox_telemetry")
            for sample in family.samples
            if sample.name.endswith("_total")
        }


class _Lines(logging.Handler):
    def __init__(self, lines: list[dict[str, Any]]) -> None:
        super().__init__()
        self._lines = lines
        self.addFilter(logs.OncePerMinute())

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._lines.append(logs.members(record))


@contextlib.contextmanager
def exporting(receiver: Receiver | None = None, **environ: str) -> Iterator[Exporting]:
    """Export spans to `receiver`, soon, and stop at the end; `environ` is more of what OTEL_* variables say."""
    soon = {"OTEL_METRICS_EXPORTER": "none", "OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BLRP_SCHEDULE_DELAY": "20"}
    started = Exporting({**(receiver.environment if receiver else {}), **soon, **environ})
    handler = _Lines(started.lines)
    logging.getLogger().addHandler(handler)
    try:
        yield started
    finally:
        started.stop()
        tracing.use(None)
        logging.getLogger().removeHandler(handler)
