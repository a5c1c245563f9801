"""How are log lines exported by OTLP? Beside standard error, where OTEL_LOGS_EXPORTER says so."""

import logging
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider

from otel import logs

SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


class Handler(logging.Handler):
    """Exports every line as a record: its event is the body, its fields are attributes, its ids the context."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._logger = provider.get_logger("ticket-inbox")

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(logs.TELEMETRY):
            return  # a warning that an export failed is not exported itself
        members: dict[str, Any] = logs.members(record)
        trace_id, span_id = members.pop("trace_id", None), members.pop("span_id", None)
        del members["timestamp"]
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                trace_id=int(trace_id, 16) if trace_id else None,
                span_id=int(span_id, 16) if span_id else None,
                severity_text=members.pop("level").upper(),
                severity_number=SEVERITIES.get(record.levelno, SeverityNumber.UNSPECIFIED),
                body=members.pop("event"),
                attributes={
                    name: value if isinstance(value, (int, float)) else str(value) for name, value in members.items()
                },
            )
        )
