"""How does a fetched ticket come into the inbox? With its job, its span and its log line, and never twice."""

import logging
import time

from opentelemetry.trace import SpanKind
from sqlalchemy.ext.asyncio import AsyncConnection

from app.sdp.errors import TenantGoneError
from app.sdp.fetch import Fetched
from db import failure_in_span, failures, inbox, ticket_history
from db.allowed import Allowed
from db.inbox import Delivery
from db.leases import Lease
from otel import logs, tracing

APPEND_SPAN = "append inbox"
_logger = logging.getLogger("ticket_inbox.sdp")


async def is_there(connection: AsyncConnection, delivery: Delivery) -> bool:
    """Return True if an earlier run appended this ticket, byte for byte, and what became of it is still there.

    A row that was promoted is none without its ticket in ticket_history: a part of a backup was restored.
    """
    status = await inbox.held(connection, delivery)
    if status != "promoted":
        return status is not None
    return bool(await ticket_history.standing(connection, [(delivery.tenant_id, delivery.ticket_id or "")]))


async def append(
    connection: AsyncConnection, delivery: Delivery, fetched: Fetched, lease: Lease, allowed: Allowed
) -> None:
    """Write a delivery and its job, which promotes it after webhooks.

    Raises TenantGoneError unless the tenant is `allowed`, LostError, or a database error.
    """
    since = time.time_ns()
    known = tracing.identity(delivery.correlation_id, delivery.tenant_id, delivery.ticket_id)
    attributes: dict[str, str | int] = {**tracing.APPENDING, **known}
    position = tracing.position_below(fetched.origin.position.context)
    try:
        [inbox_id] = await inbox.append(connection, [delivery], [delivery.tenant_id], lease, allowed=allowed)
    except failures.DatabaseError as error:
        failure = failure_in_span.of(error)
        tracing.record(position, APPEND_SPAN, SpanKind.PRODUCER, since, attributes, error=failure)
        raise
    if inbox_id is None:
        raise TenantGoneError
    attributes["inbox_id"] = inbox_id
    tracing.record(position, APPEND_SPAN, SpanKind.PRODUCER, since, attributes)
    _log(delivery, inbox_id)


def _log(delivery: Delivery, inbox_id: int) -> None:
    trace_id, span_id = tracing.ids_of(delivery.traceparent)
    logs.log(
        _logger,
        logging.INFO,
        "ticket_fetched",
        correlation_id=delivery.correlation_id,
        trace_id=trace_id,
        span_id=span_id,
        tenant_id=delivery.tenant_id,
        ticket_id=delivery.ticket_id,
        inbox_id=inbox_id,
        source=delivery.source,
        status=delivery.status,
        error=delivery.error,
    )
