"""What is seen of a question once it is answered? Its one log line, its span, its counts; no text and no token."""

import logging
import time

import msgspec
from opentelemetry.trace import SpanKind

from app import correlation
from app.delivery import Origin
from app.search import PATH
from app.webhook import request_record
from otel import logs, metrics, tracing
from otel.tracing import Failure

SPAN = f"POST {PATH}"
ATTRIBUTES = {"http.request.method": "POST", "url.path": PATH, "url.scheme": "http", "http.route": PATH}
OK, CLIENTS_FAULT, OURS = 200, 400, 500  # the first status of each kind
_logger = logging.getLogger("ticket_inbox.search")


class QuestionRecord(msgspec.Struct):
    """What is known of a question so far."""

    origin: Origin
    started: float  # by the performance counter
    since: int  # nanoseconds since 1970
    tenant_id: str | None = None  # the token's
    lexemes: int | None = None
    candidates: int | None = None
    results: int | None = None
    kind: str | None = None  # of the refusal
    error: BaseException | str | None = None


def begin(headers: dict[bytes, bytes]) -> QuestionRecord:
    """Begin the record of a request: it has a correlation id and a position in a trace from now on."""
    traceparent = headers.get(b"traceparent")
    given = traceparent.decode("latin-1") if traceparent else None
    position = tracing.position_of_request(given, SPAN, ATTRIBUTES)
    origin = Origin(correlation.kept_or_new(headers.get(correlation.HEADER_BYTES)), position)
    return QuestionRecord(origin, time.perf_counter(), time.time_ns())


def end(record: QuestionRecord, status: int) -> None:
    """End the record of a question that was answered: write its line, record its span, count it."""
    seconds = time.perf_counter() - record.started
    metrics.question_answered(PATH, status, record.kind, seconds, record.tenant_id or "", record.origin.position)
    _record_span(record, status)
    _log(record, status, seconds)


def found_of(record: QuestionRecord) -> dict[str, int]:
    """Return how much a question found, as far as it is known, as its spans and its line have it."""
    known = {"lexemes": record.lexemes, "candidates": record.candidates, "results": record.results}
    return {name: value for name, value in known.items() if value is not None}


def _record_span(record: QuestionRecord, status: int) -> None:
    """Record the request's span. A refusal that is the sender's fault is no error of ours (semantic conventions)."""
    words = request_record.described(record.error)
    attributes = {
        **ATTRIBUTES,
        "http.response.status_code": status,
        **tracing.identity(record.origin.correlation_id, record.tenant_id, None),
        **found_of(record),
        **({"error.type": record.kind, "error.message": words} if record.kind else {}),
    }
    failure = Failure(record.kind or str(status), words) if status >= OURS else None
    tracing.record(record.origin.position, SPAN, SpanKind.SERVER, record.since, attributes, error=failure)


def _log(record: QuestionRecord, status: int, seconds: float) -> None:
    level = logging.INFO if status < CLIENTS_FAULT else logging.WARNING if status < OURS else logging.ERROR
    context = record.origin.position.context
    logs.log(
        _logger,
        level,
        "question_answered",
        correlation_id=record.origin.correlation_id,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        tenant_id=record.tenant_id,
        status=status,
        duration_ms=round(seconds * 1000, 3),
        **found_of(record),
        error=record.error,
    )
