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
from app.sdp.listed import REQUESTS, Row
from app.sdp.status import lenient
from db.inbox import Delivery
from otel import tracing
from otel.tracing import Failure

if TYPE_CHECKING:
    from app.sdp.client import Client

SPAN = "GET /api/v3/{where}/{{id}}"
LIST_SPAN = "GET /api/v3/{where}"
PORTS = {"http": 80, "https": 443}


class Fetched(msgspec.Struct, frozen=True):
    """A ticket as it is now, and where it is; `has_tags` if it has a member for them."""

    ticket_id: str
    times: answers.Times
    body: bytes  # the payload of its delivery
    origin: Origin
    where: str
    has_tags: bool


async def ticket(client: "Client", tenant_id: str, ticket_id: str, where: str = REQUESTS) -> Fetched:
    """Fetch a ticket, and record its span. Raises GoneError if there is none, SdpError if it cannot be fetched."""
    origin, name, attributes = _begin(client, tenant_id, ticket_id, SPAN.format(where=where))
    since = time.time_ns()
    try:
        request = await client.ticket(ticket_id, where)
        _require(request, ticket_id)
    except SdpError as error:
        failure = Failure(type(error).__name__, str(error))
        tracing.record(origin.position, name, SpanKind.CLIENT, since, attributes, error=failure)
        raise
    tracing.record(origin.position, name, SpanKind.CLIENT, since, attributes)
    return _fetched(tenant_id, ticket_id, request, origin, where)


def listed(client: "Client", tenant_id: str, row: Row, where: str) -> Fetched:
    """Return a ticket that a list brought whole, and record the request for that list as the span of this ticket."""
    origin, name, attributes = _begin(client, tenant_id, row.id, LIST_SPAN.format(where=where))
    tracing.record(origin.position, name, SpanKind.CLIENT, row.began, attributes, ended=row.ended)
    return _fetched(tenant_id, row.id, row.ticket, origin, where)


def _begin(client: "Client", tenant_id: str, ticket_id: str, span: str) -> tuple[Origin, str, dict[str, str | int]]:
    """Return the origin of a ticket's delivery, and the name and the attributes of the span that brings it."""
    method, template = span.split(" ", 1)
    asked = {"http.request.method": method, "url.template": template}
    origin = Origin(correlation.new(), tracing.position_of_request(None, span, asked))
    return (
        origin,
        span,
        {**asked, **_server(client.base_url), **tracing.identity(origin.correlation_id, tenant_id, ticket_id)},
    )


def _fetched(tenant_id: str, ticket_id: str, request: msgspec.Raw, origin: Origin, where: str) -> Fetched:
    body, has_tags = payload(tenant_id, request), bool(answers.read(_Tags, request).tags)
    return Fetched(ticket_id, answers.read(answers.Times, request), body, origin, where, has_tags=has_tags)


def payload(tenant_id: str, request: msgspec.Raw) -> bytes:
    """Return the payload of a ticket's delivery."""
    return msgspec.json.encode({"tenant_id": tenant_id, "request": request})


class _Tags(msgspec.Struct, frozen=True):
    tags: msgspec.Raw = msgspec.Raw()


def _server(base_url: str) -> dict[str, str | int]:
    address = urlsplit(base_url)
    return {"server.address": address.hostname or "", "server.port": address.port or PORTS[address.scheme]}


def _require(request: msgspec.Raw, ticket_id: str) -> None:
    """Raise SdpError if this is no ticket, or another; an id as a number breaks our rules, and is kept so."""
    found = answers.read(answers.Times, request).id
    if found != msgspec.Raw(ticket_id.encode()) and lenient(str, found) != ticket_id:
        raise SdpError(f"ServiceDesk Plus was asked for ticket {ticket_id}, and gave another")


def delivery(source: str, fetched: Fetched, tenant_id: str, rules: Rules) -> Delivery:
    """Return the delivery of a fetched ticket: `rejected`, with the reason, if it breaks a rule.

    Raises SdpError if it is no JSON in UTF-8 after all.
    """
    try:
        built = deliveries.build_unsigned(source, fetched.body, tenant_id, rules, fetched.origin)
    except MalformedError as error:
        raise SdpError(f"ServiceDesk Plus gave a ticket that cannot be kept: {error}") from None
    return msgspec.structs.replace(built, ticket_id=fetched.ticket_id)
