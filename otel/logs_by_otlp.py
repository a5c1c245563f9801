"""How are log lines exported by OTLP? Beside standard error, where OTEL_LOGS_EXPORTER says so."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel import logs
from otel.export_queue import ExportQueue

SCOPE = InstrumentationScope("ticket-inbox")
SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


class LineQueue(ExportQueue):
    """The queue of lines, which takes no more when it stops: later ones are on standard error alone."""

    handler: logging.Handler

    def connect(self, resource: Resource) -> None:
        """Take every line that the process logs from now on."""
        self.handler = Handler(resource, self.put)
        logging.getLogger().addHandler(self.handler)

    def stop(self, ends: float) -> None:
        """Take no more, and send what can be sent until `ends`."""
        logging.getLogger().removeHandler(self.handler)
        super().stop(ends)


class Handler(logging.Handler):
    """Exports every line as a record: its event is the body, its fields are attributes, its ids the context."""

    def __init__(self, resource: Resource, put: Callable[[ReadableLogRecord], None]) -> None:
        super().__init__()
        self._resource, self._put = resource, put

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(logs.OF_TELEMETRY):
            return  # a warning that an export failed is not exported itself
        with contextlib.suppress(Exception):  # a line that cannot be formatted fails no caller; OnceATurn reports it
            self._put(self._readable(record))

    def _readable(self, record: logging.LogRecord) -> ReadableLogRecord:
        members: dict[str, Any] = logs.members(record)
        trace_id, span_id = members.pop("trace_id", None), members.pop("span_id", None)
        del members["timestamp"]
        exported = LogRecord(
            timestamp=int(record.created * 1e9),
            observed_timestamp=time.time_ns(),
            trace_id=int(trace_id, 16) if trace_id else None,
            span_id=int(span_id, 16) if span_id else None,
            severity_text=members.pop("level").upper(),
            severity_number=SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
            body=members.pop("event"),
            attributes={
                name: value if isinstance(value, (int, float)) else str(value) for name, value in members.items()
            },
        )
        return ReadableLogRecord(exported, self._resource, SCOPE)
