"""What is seen of a webhook once it is answered? Its one log line, its span, its counts."""

import functools
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from app import correlation
from app.delivery import Origin
from otel import logs, metrics, tracing
from otel.tracing import Failure

_logger = logging.getLogger("ticket_inbox.webhook")


class RequestRecord(msgspec.Struct):
    """What is known of a webhook so far; nothing is stored from it."""

    path: str
    origin: Origin
    started: float  # by the performance counter
    since: int  # nanoseconds since 1970
    # As the body claims, cut to what a log line takes. Until `is_verified`, so in a 401, it is only a claim.
    tenant_id: str | None = None
    ticket_id: str | None = None
    inbox_id: int | None = None
    is_verified: bool = False
    ignored: Sequence[str] | None = None  # members that could not be read, and need not be there
    kind: str | None = None  # of the refusal
    error: BaseException | str | None = None


def first_of_each(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the first header of each name, which is in lower case."""
    return dict(reversed(list(headers)))


def begin(path: str, headers: dict[bytes, bytes]) -> RequestRecord:
    """Begin the record of a webhook to `path`: it has a correlation id and a position in a trace from now on."""
    traceparent = headers.get(b"traceparent")
    given = traceparent.decode("latin-1") if traceparent else None
    position = tracing.position_of_request(given, _span_name(path), _attributes(path))
    origin = Origin(correlation.kept_or_new(headers.get(correlation.HEADER_BYTES)), position)
    return RequestRecord(path, origin, time.perf_counter(), time.time_ns())


def end(record: RequestRecord, status: int) -> None:
    """End the record of a webhook that was answered: write its line, record its span, count it."""
    seconds = time.perf_counter() - record.started
    if record.origin.position.is_sampled:
        _record_span(record, status)
    tenant_id = record.tenant_id if record.is_verified else None
    metrics.webhook_answered(record.path, status, record.kind, seconds, tenant_id or "", record.origin.position)
    _log(record, status, seconds)


@functools.cache
def _span_name(path: str) -> str:
    return f"POST {path}"


@functools.cache
def _attributes(path: str) -> dict[str, Any]:
    return {"http.request.method": "POST", "url.path": path, "url.scheme": "http", "http.route": path}


def _record_span(record: RequestRecord, status: int) -> None:
    """Record the request's span. A refusal that is the sender's fault is no error of ours (semantic conventions)."""
    attributes = {
        **_attributes(record.path),
        "http.response.status_code": status,
        **tracing.identity(record.origin.correlation_id, record.tenant_id, record.ticket_id),
    }
    if record.kind:
        attributes["error.type"] = record.kind
        attributes["error.message"] = described(record.error)
    failure = Failure(record.kind or str(status), described(record.error)) if status >= 500 else None  # noqa: PLR2004
    name = _span_name(record.path)
    tracing.record(record.origin.position, name, SpanKind.SERVER, record.since, attributes, error=failure)


def described(error: BaseException | str | None) -> str:
    """Return an error in words; of an exception only its type, because its own words may hold anything."""
    return type(error).__name__ if isinstance(error, BaseException) else str(error)


def _log(record: RequestRecord, status: int, seconds: float) -> None:
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR  # noqa: PLR2004
    context = record.origin.position.context
    logs.log(
        _logger,
        level,
        "webhook_answered",
        correlation_id=record.origin.correlation_id,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        tenant_id=record.tenant_id,
        ticket_id=record.ticket_id,
        inbox_id=record.inbox_id,
        status=status,
        duration_ms=round(seconds * 1000, 3),
        ignored=record.ignored,
        error=record.error,
    )
