"""How does an event that no webhook brought become a delivery? Read by the webhook's decoder, in a trace of its own."""

from app import event
from app.event.rules import Rules
from app.webhook import request_record
from db import inbox
from otel import tracing
from otel.tracing import Place


def read(body: bytes, tenant_id: str, rules: Rules, place: Place | None = None) -> inbox.Delivery:
    """Give the delivery of `body`, with a correlation id of its own; it is `rejected` where it breaks a rule.

    `place` is where its trace begins; without it, nothing of its way into the inbox leaves a span.
    Raises MalformedError where it is no JSON object in UTF-8.
    """
    ticket_id = error = None
    try:
        require_tenant(body, tenant_id)
        ticket_id = event.check(body, rules)
    except event.RejectedError as rejected:
        ticket_id, error = rejected.ticket_id, str(rejected)
    place = place or tracing.place_of_request(None, "read event", {})
    return inbox.Delivery(
        tenant_id=tenant_id,
        ticket_id=ticket_id,
        correlation_id=request_record.correlation_id_of(None),
        traceparent=place.traceparent,
        payload=body,
        signature="",  # nobody signed it
        status="rejected" if error else "pending",
        error=error,
    )


def require_tenant(body: bytes, tenant_id: str) -> None:
    """Raise RejectedError where `body` names another tenant, or none."""
    if (named := event.tenant_of(body)) != tenant_id:
        raise event.RejectedError([event.BrokenRule("tenant_id", f"must be {tenant_id!r}, not {named[:100]!r}")])
