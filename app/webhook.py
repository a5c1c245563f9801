"""POST /webhook/servicedesk/resolved-ticket: verify, append, 202. Reads top to bottom like the contract."""

import re
from typing import Any, Literal

import msgspec
from litestar import Request, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from sqlalchemy.ext.asyncio import AsyncEngine

from app import event, exchange, openapi, signature
from app.exchange import Exchange
from app.keyring import Keyring
from app.problems import Refusal
from app.settings import Settings
from app.shared_commit import QueueFullError, SharedCommit
from db import engine as database
from db import inbox

_JSON = re.compile(r'application/json[ \t]*(;[ \t]*charset=("utf-8"|utf-8)[ \t]*)?', re.ASCII | re.IGNORECASE)


class Inlet(State):
    """What the webhook works with, made at start."""

    settings: Settings
    engine: AsyncEngine
    keyring: Keyring
    commits: SharedCommit


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The raw event and the job that will promote it are committed."""

    status: Literal["accepted"] = "accepted"
    correlation_id: str


@post(event.PATH, status_code=202, operation_class=openapi.WebhookOperation, responses=openapi.REFUSALS)
async def resolved_ticket(request: Request[Any, Any, Any], state: Inlet) -> Accepted:
    """Take in one resolved ticket."""
    current = exchange.of_webhook(request.scope)
    require_json(request)
    body = await read_body(request, state.settings.max_body_bytes)
    tenant_id = read_tenant_id(body, current)
    signed = verify(state.keyring, tenant_id, body, request.headers.get(signature.HEADER))
    current.is_verified = True
    try:
        ticket = event.decode(body, state.settings.max_description_chars)
    except event.RejectedError as rejected:
        current.ticket_id = rejected.ticket_id
        await append(state, current, body, signed, rejected)
        raise Refusal(422, f"The event breaks its schema: {rejected}.", errors=rejected.broken) from None
    current.ticket_id = ticket.ticket_id
    await append(state, current, body, signed)
    return Accepted(correlation_id=current.correlation_id)


def require_json(request: Request[Any, Any, Any]) -> None:
    """Refuse what does not call itself JSON in UTF-8."""
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise Refusal(
            415,
            "Set the header Content-Type to application/json "
            "(ServiceDesk Plus' invokeurl sends text as text/plain unless told).",
        )


async def read_body(request: Request[Any, Any, Any], limit: int) -> bytes:
    """Give the exact bytes; refuse a body that is longer than `limit`, whether or not it says so."""
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code == 413:  # noqa: PLR2004
            raise Refusal(413, f"The body is longer than {limit:,} bytes (MAX_BODY_BYTES).") from None
        raise Refusal(400, "The body cannot be read: it ended early or its length is wrong.") from error


def read_tenant_id(body: bytes, current: Exchange) -> str:
    """Give the tenant that the body claims to be of."""
    try:
        tenant_id = event.tenant_of(body)
    except event.MalformedError as malformed:
        raise Refusal(400, f"The body must be a JSON object in UTF-8, but {malformed}.") from None
    except event.RejectedError as rejected:
        raise Refusal(422, f"Nothing to verify the body with: {rejected}.", errors=rejected.broken) from None
    current.tenant_id = tenant_id[:100]
    return tenant_id


def verify(keyring: Keyring, tenant_id: str, body: bytes, header: str | None) -> str:
    """Give the header that signs the body; refuse all else alike, whether the tenant or the signature is wrong."""
    if not keyring.loaded or tenant_id in keyring.unreadable:
        raise Refusal(503, "The tenants' secrets cannot be read now; send it again.")
    verified = signature.verify(keyring.secrets_of(tenant_id), body, header)
    if not verified or header is None:
        raise Refusal(
            401,
            f"The signature in the header {signature.HEADER} does not verify: it must be the HMAC-SHA256 "
            "of the exact bytes of the body, keyed by the secret of the tenant that the body names.",
        )
    return header


async def append(
    state: Inlet, current: Exchange, body: bytes, signed: str, rejected: event.RejectedError | None = None
) -> None:
    """Commit the delivery and its job, or refuse with 503; a sender that hangs up stops nothing."""
    place = current.place
    assert place is not None  # noqa: S101  (it is a webhook's)
    delivery = inbox.Delivery(
        tenant_id=current.tenant_id or "",
        ticket_id=current.ticket_id,
        correlation_id=current.correlation_id,
        traceparent=place.traceparent,
        payload=body,
        signature=signed,
        status="rejected" if rejected else "pending",
        error=str(rejected) if rejected else None,
    )
    try:
        current.inbox_id = await state.commits.append(delivery, place)
    except QueueFullError:
        raise Refusal(503, "Too many webhooks are waiting for Postgres; send it again.") from None
    except TimeoutError:
        raise Refusal(503, "Postgres is slow to answer; send it again.") from None
    except database.DatabaseError as error:
        cause = database.reason(error)
        raise Refusal(503, "Postgres cannot take the event now; send it again.", cause=cause) from error
