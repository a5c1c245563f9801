"""Which webhook is this, and what do we say of it? Its headers, its ids, its one log line, its span, its counts."""

import logging
import random
import re
import time
from collections.abc import Iterable

import msgspec
from litestar.types import Send
from opentelemetry.trace import SpanKind

from app.event import PATH
from otel import logs, metrics, tracing
from otel.tracing import Place

HEADER = "X-Correlation-ID"
HEADER_BYTES = HEADER.lower().encode()
SPAN = f"POST {PATH}"
ATTRIBUTES = {"http.request.method": "POST", "url.path": PATH, "url.scheme": "http", "http.route": PATH}
Headers = list[tuple[bytes, bytes]]
_VALID = re.compile(rb"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_logger = logging.getLogger("ticket_inbox.webhook")


class Exchange(msgspec.Struct):
    """A webhook and what is known of it so far."""

    headers: dict[bytes, bytes]
    correlation_id: str
    place: Place
    started: float  # by the performance counter
    since: int  # nanoseconds since 1970
    tenant_id: str | None = None
    ticket_id: str | None = None
    inbox_id: int | None = None
    is_verified: bool = False
    kind: str | None = None  # of the refusal
    error: BaseException | str | None = None

    def header(self, name: bytes) -> bytes:
        """Give the first header of a name, which is in lower case; an empty one where there is none."""
        return self.headers.get(name, b"")


def of_webhook(received: Iterable[tuple[bytes, bytes]]) -> Exchange:
    """Begin the exchange of a webhook: it has a trace, and leaves a line and a span when it is answered."""
    headers = dict(reversed(list(received)))
    traceparent = headers.get(b"traceparent")
    place = tracing.place_of_request(traceparent.decode("latin-1") if traceparent else None, SPAN, ATTRIBUTES)
    return Exchange(headers, correlation_id_of(headers.get(HEADER_BYTES)), place, time.perf_counter(), time.time_ns())


def correlation_id_of(given: bytes | None) -> str:
    """Give the correlation id that a request came with where it is valid, else a fresh one."""
    if given and _VALID.fullmatch(given):
        return given.decode()
    # A UUID of version 7 (RFC 9562), which begins with the time: an index takes those of one moment on one page.
    moment, bits = f"{time.time_ns() // 1_000_000:012x}", f"{random.getrandbits(72):018x}"
    return f"{moment[:8]}-{moment[8:]}-7{bits[:3]}-a{bits[3:6]}-{bits[6:]}"


async def answer(exchange: Exchange, status: int, headers: Headers, body: bytes, send: Send) -> None:
    """Answer a webhook, and leave what is seen of it."""
    await send({"type": "http.response.start", "status": status, "headers": completed(exchange, headers, body)})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    leave(exchange, status)


def completed(exchange: Exchange, headers: Headers, body: bytes) -> Headers:
    """Give the headers of an answer with those that every answer has."""
    return [*headers, (HEADER_BYTES, exchange.correlation_id.encode()), (b"content-length", b"%d" % len(body))]


def leave(exchange: Exchange, status: int) -> None:
    """Leave what is seen of a webhook that was answered: its span, its counts, its line."""
    seconds = time.perf_counter() - exchange.started
    if exchange.place.is_sampled:
        _record(exchange, status)
    tenant_id = exchange.tenant_id if exchange.is_verified else None
    metrics.webhook_answered(PATH, status, exchange.kind, seconds, tenant_id or "", exchange.place)
    _log(exchange, status, seconds)


def _record(exchange: Exchange, status: int) -> None:
    """Leave the request's span. A refusal that is the sender's fault is no error of ours (semantic conventions)."""
    attributes = {
        **ATTRIBUTES,
        "http.response.status_code": status,
        **tracing.identity(exchange.correlation_id, exchange.tenant_id, exchange.ticket_id),
    }
    if exchange.kind:
        attributes["error.type"] = exchange.kind
        attributes["error.message"] = _told(exchange.error)
    error = _told(exchange.error) if status >= 500 else None  # noqa: PLR2004
    tracing.record(exchange.place, SPAN, SpanKind.SERVER, exchange.since, attributes, error=error)


def _told(error: BaseException | str | None) -> str:
    """Tell an error in a span: of what nobody foresaw only its kind, for its words may hold anything."""
    return type(error).__name__ if isinstance(error, BaseException) else str(error)


def _log(exchange: Exchange, status: int, seconds: float) -> None:
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR  # noqa: PLR2004
    context = exchange.place.context
    logs.log(
        _logger,
        level,
        "webhook_answered",
        correlation_id=exchange.correlation_id,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        tenant_id=exchange.tenant_id,
        ticket_id=exchange.ticket_id,
        inbox_id=exchange.inbox_id,
        status=status,
        duration_ms=round(seconds * 1000, 3),
        error=exchange.error,
    )
