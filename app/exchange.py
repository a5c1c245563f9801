"""Which request is this, and what do we say of it? Its correlation id, its trace, its one log line."""

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import SpanKind

from app.event import PATH
from otel import logs, metrics, tracing
from otel.tracing import Place

if TYPE_CHECKING:
    from litestar.types import Message, Scope

HEADER = "X-Correlation-ID"
SPAN = f"POST {PATH}"
ATTRIBUTES = {"http.request.method": "POST", "url.path": PATH, "url.scheme": "http", "http.route": PATH}
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z", re.ASCII)
_logger = logging.getLogger("ticket_inbox.webhook")


class Exchange(msgspec.Struct):
    """A request and what is known of it so far."""

    correlation_id: str
    started: float
    place: Place | None = None  # set where the request is a webhook
    since: int = 0  # nanoseconds since 1970
    kind: str | None = None  # of the refusal
    is_verified: bool = False
    tenant_id: str | None = None
    ticket_id: str | None = None
    inbox_id: int | None = None
    error: BaseException | str | None = None


def of(scope: "Scope") -> Exchange:
    """Give the exchange that `scope` belongs to; the first call begins it."""
    state = scope["state"]
    if (exchange := state.get("exchange")) is None:
        given = _header(scope, b"x-correlation-id")
        kept = given if given and _VALID.match(given) else str(uuid.uuid4())
        exchange = state["exchange"] = Exchange(kept, time.perf_counter())
    return exchange


def of_webhook(scope: "Scope") -> Exchange:
    """Give the exchange of a webhook: it has a trace, and leaves a line and a span when it is answered."""
    exchange = of(scope)
    exchange.since = time.time_ns()
    exchange.place = tracing.place_of_request(_header(scope, b"traceparent"), SPAN, ATTRIBUTES)
    return exchange


async def before_send(message: "Message", scope: "Scope") -> None:
    """Put the correlation id on every answer, and leave what is seen of every webhook."""
    if message["type"] != "http.response.start":
        return
    exchange = of(scope)
    message["headers"] = [
        *message.get("headers", ()),
        (HEADER.lower().encode(), exchange.correlation_id.encode()),
    ]
    if exchange.place:
        seconds = time.perf_counter() - exchange.started
        _record(exchange, exchange.place, message["status"])
        _count(exchange, exchange.place, message["status"], seconds)
        _log(exchange, exchange.place, message["status"], seconds)


def _record(exchange: Exchange, place: Place, status: int) -> None:
    """Leave the request's span. A refusal that is the sender's fault is no error of ours (semantic conventions)."""
    if not place.is_sampled:
        return
    attributes = {
        **ATTRIBUTES,
        "http.response.status_code": status,
        **tracing.identity(exchange.correlation_id, exchange.tenant_id, exchange.ticket_id),
    }
    if exchange.kind:
        attributes["error.type"] = exchange.kind
        attributes["error.message"] = _told(exchange.error)
    error = _told(exchange.error) if status >= 500 else None  # noqa: PLR2004
    tracing.record(place, SPAN, SpanKind.SERVER, exchange.since, attributes, error=error)


def _told(error: BaseException | str | None) -> str:
    """Tell an error in a span: of what nobody foresaw only its kind, for its words may hold anything."""
    return type(error).__name__ if isinstance(error, BaseException) else str(error)


def _count(exchange: Exchange, place: Place, status: int, seconds: float) -> None:
    tenant_id = exchange.tenant_id if exchange.is_verified else None
    metrics.webhook_answered(PATH, status, exchange.kind, seconds, tenant_id or "", place)


def _log(exchange: Exchange, place: Place, status: int, seconds: float) -> None:
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR  # noqa: PLR2004
    logs.log(
        _logger,
        level,
        "webhook_answered",
        correlation_id=exchange.correlation_id,
        trace_id=f"{place.context.trace_id:032x}",
        span_id=f"{place.context.span_id:016x}",
        tenant_id=exchange.tenant_id,
        ticket_id=exchange.ticket_id,
        inbox_id=exchange.inbox_id,
        status=status,
        duration_ms=round(seconds * 1000, 3),
        error=exchange.error,
    )


def _header(scope: "Scope", name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
