"""How does a ticket become a delivery? It is fetched whole, in a trace of its own, and kept byte for byte."""

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from opentelemetry.trace import SpanKind

from app import correlation
from app import delivery as deliveries
from app.delivery import Origin
from app.event.rules import MalformedError, Rules
from app.sdp import answers
from app.sdp.errors import SdpError
from db.inbox import Delivery
from otel import tracing
from otel.tracing import Failure

if TYPE_CHECKING:
    from app.sdp.client import Client

SPAN = "GET /api/v3/requests/{id}"
PORTS = {"http": 80, "https": 443}
ATTRIBUTES = {"http.request.method": "GET", "url.template": "/api/v3/requests/{id}"}


class Fetched(msgspec.Struct, frozen=True):
    """A ticket as it is now."""

    times: answers.Times
    body: bytes  # the payload of its delivery
    origin: Origin


async def ticket(client: "Client", tenant_id: str, ticket_id: str) -> Fetched:
    """Fetch a ticket, and record its span. Raises GoneError if there is none, SdpError if it cannot be fetched."""
    position, since = tracing.position_of_request(None, SPAN, ATTRIBUTES), time.time_ns()
    origin = Origin(correlation.new(), position)
    known = tracing.identity(origin.correlation_id, tenant_id, ticket_id)
    attributes = {**ATTRIBUTES, **_server(client.base_url), **known}
    try:
        request = await client.ticket(ticket_id)
        times = _times(request, ticket_id)
    except SdpError as error:
        failure = Failure(type(error).__name__, str(error))
        tracing.record(position, SPAN, SpanKind.CLIENT, since, attributes, error=failure)
        raise
    tracing.record(position, SPAN, SpanKind.CLIENT, since, attributes)
    body = msgspec.json.encode({"tenant_id": tenant_id, "request": request})
    return Fetched(times, body, origin)


def _server(base_url: str) -> dict[str, str | int]:
    address = urlsplit(base_url)
    return {"server.address": address.hostname or "", "server.port": address.port or PORTS[address.scheme]}


def _times(request: msgspec.Raw, ticket_id: str) -> answers.Times:
    times = answers.read(answers.Times, request)
    if times.id != ticket_id:
        raise SdpError(f"ServiceDesk Plus was asked for ticket {ticket_id}, and gave another")
    return times


def delivery(source: str, fetched: Fetched, tenant_id: str, rules: Rules) -> Delivery:
    """Return the delivery of a fetched ticket: `rejected`, with the reason, if it breaks a rule.

    Raises SdpError if it is no JSON in UTF-8 after all.
    """
    try:
        built = deliveries.build_unsigned(source, fetched.body, tenant_id, rules, fetched.origin)
    except MalformedError as error:
        raise SdpError(f"ServiceDesk Plus gave a ticket that cannot be kept: {error}") from None
    return msgspec.structs.replace(built, ticket_id=built.ticket_id or fetched.times.id)
