"""Which request is this, and what do we say of it? Its correlation id, its trace, its one log line."""

import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

import msgspec

from otel import logs, tracing

if TYPE_CHECKING:
    from litestar.types import Message, Scope

HEADER = "X-Correlation-ID"
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z", re.ASCII)
_logger = logging.getLogger("ticket_inbox.webhook")


class Exchange(msgspec.Struct):
    """A request and what is known of it so far."""

    correlation_id: str
    started: float
    traceparent: str | None = None  # set where the request is a webhook
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
    """Give the exchange of a webhook: it has a trace, and leaves a line when it is answered."""
    exchange = of(scope)
    exchange.traceparent = tracing.traceparent_of(_header(scope, b"traceparent"))
    return exchange


async def before_send(message: "Message", scope: "Scope") -> None:
    """Put the correlation id on every answer, and write the line of every webhook."""
    if message["type"] != "http.response.start":
        return
    exchange = of(scope)
    message["headers"] = [
        *message.get("headers", ()),
        (HEADER.lower().encode(), exchange.correlation_id.encode()),
    ]
    if exchange.traceparent:
        _log(exchange, exchange.traceparent, message["status"])


def _log(exchange: Exchange, traceparent: str, status: int) -> None:
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR  # noqa: PLR2004
    logs.log(
        _logger,
        level,
        "webhook_answered",
        correlation_id=exchange.correlation_id,
        trace_id=tracing.trace_id_of(traceparent),
        tenant_id=exchange.tenant_id,
        ticket_id=exchange.ticket_id,
        inbox_id=exchange.inbox_id,
        status=status,
        duration_ms=round((time.perf_counter() - exchange.started) * 1000, 3),
        error=exchange.error,
    )


def _header(scope: "Scope", name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
