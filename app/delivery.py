"""How does an event become a delivery, the inbox's row? The one place that builds it, for webhook, file and API."""

import msgspec

from app import correlation, event
from app.event import BrokenRule, Event, RejectedError
from app.event.rules import Rules
from db import inbox
from otel import tracing
from otel.tracing import SpanPosition


class Origin(msgspec.Struct, frozen=True):
    """By what a delivery is found again: its correlation id, and its position in a trace."""

    correlation_id: str
    position: SpanPosition

    @classmethod
    def untraced(cls, correlation_id: str | None = None) -> "Origin":
        """Return the origin of what leaves no span on its way into the inbox."""
        return cls(correlation_id or correlation.new(), tracing.position_of_request(None, "read event", {}))


def build(
    source: str, body: bytes, parsed: Event, tenant_id: str, origin: Origin, signature: str = ""
) -> inbox.Delivery:
    """Return the delivery of `body`, byte for byte; it is `rejected` with its reasons where it breaks a rule.

    `source` says what brought it. `signature` is the header that verified it, "" for an event that no webhook brought.
    """
    return inbox.Delivery(
        source=source,
        tenant_id=tenant_id,
        ticket_id=parsed.ticket_id,
        display_id=parsed.display_id,
        correlation_id=origin.correlation_id,
        traceparent=origin.position.traceparent,
        payload=body,
        signature=signature,
        status="rejected" if parsed.broken else "pending",
        error=parsed.error,
    )


def build_unsigned(source: str, body: bytes, tenant_id: str, rules: Rules, origin: Origin) -> inbox.Delivery:
    """Return the delivery of a `body` that no webhook brought, which must name `tenant_id` as its tenant.

    Raises MalformedError where `body` is no JSON object in UTF-8.
    """
    return build(source, body, _parse(body, tenant_id, rules), tenant_id, origin)


def _parse(body: bytes, tenant_id: str, rules: Rules) -> Event:
    try:
        named = event.tenant_of(body)
    except RejectedError as rejected:
        return Event(None, rejected.broken)
    if named != tenant_id:
        return Event(None, [BrokenRule("tenant_id", f"must be {tenant_id!r}, not {named[:100]!r}")])
    return event.check(body, rules)
