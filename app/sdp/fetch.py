"""How does a ticket become a delivery? It is fetched whole, in a trace of its own, and kept byte for byte."""

import time
from urllib.parse import urlsplit

import msgspec
from opentelemetry.trace import SpanKind

from app import delivery as deliveries
from app.event.rules import Rules
from app.sdp import answers
from app.sdp.client import Client
from app.sdp.errors import SdpError
from app.webhook import request_record
from db.inbox import Delivery
from otel import tracing
from otel.tracing import Place

SPAN = "GET /api/v3/requests/{id}"
ATTRIBUTES = {"http.request.method": "GET", "url.template": "/api/v3/requests/{id}"}


class Fetched(msgspec.Struct, frozen=True):
    """A ticket as it is now."""

    times: answers.Times
    body: bytes  # the event that it makes
    correlation_id: str
    place: Place


async def ticket(client: Client, tenant_id: str, ticket_id: str) -> Fetched:
    """Fetch a ticket. Raises GoneError where there is none, SdpError where it cannot be had."""
    place, since = tracing.place_of_request(None, SPAN, ATTRIBUTES), time.time_ns()
    correlation_id = request_record.correlation_id_of(None)
    known = tracing.identity(correlation_id, tenant_id, ticket_id)
    attributes = {**ATTRIBUTES, "server.address": urlsplit(client.base_url).hostname or "", **known}
    try:
        request = await client.ticket(ticket_id)
        times = _times(request, ticket_id)
    except SdpError as error:
        attributes["error.type"] = type(error).__name__
        tracing.record(place, SPAN, SpanKind.CLIENT, since, attributes, error=str(error))
        raise
    tracing.record(place, SPAN, SpanKind.CLIENT, since, attributes)
    body = msgspec.json.encode({"tenant_id": tenant_id, "request": request})
    return Fetched(times, body, correlation_id, place)


def _times(request: msgspec.Raw, ticket_id: str) -> answers.Times:
    times = answers.read(answers.Times, request)
    if times.id != ticket_id:
        raise SdpError(f"ServiceDesk Plus was asked for ticket {ticket_id}, and gave another")
    return times


def delivery(fetched: Fetched, tenant_id: str, rules: Rules) -> Delivery:
    """Give the delivery that it makes: `rejected` where it breaks a rule, with the reason."""
    read = deliveries.read(fetched.body, tenant_id, rules, fetched.place)
    return msgspec.structs.replace(
        read, correlation_id=fetched.correlation_id, ticket_id=read.ticket_id or fetched.times.id
    )
