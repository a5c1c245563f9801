"""POST /webhook/servicedesk/resolved-ticket: verify, append, 202. Reads top to bottom like the contract.

An ASGI handler within Litestar's routing: in a profile, what Litestar does for a handler with arguments and a return
value took about as long as all that is done here (docs/decisions/0018).
"""

import re
import time
from typing import Literal

import msgspec
from litestar import asgi
from litestar.types import HTTPScope, Receive, Send

from app import event
from app.event.rules import Rules
from app.settings import Settings
from app.webhook import problems, request_record, signature
from app.webhook.group_commit import FULL, QueueFullError, SharedCommit
from app.webhook.keyring import Keyring
from app.webhook.problems import Refusal
from app.webhook.request_record import Exchange
from app.webhook.tenant_rate import TenantRate
from db import engine as database
from db import inbox

_JSON = re.compile(rb'application/json[ \t]*(;[ \t]*charset=("utf-8"|utf-8)[ \t]*)?', re.ASCII | re.IGNORECASE)
NOT_SIGNED = (
    f"The signature in the header {signature.HEADER} does not verify: it must be the HMAC-SHA256 "
    "of {}, keyed by the secret of the tenant that the body names."
)
SIGNED = (
    "the exact bytes of the body",
    f"the header {signature.TIMESTAMP_HEADER} (seconds since 1970, now), a full stop, and the exact bytes of the body",
)
_encode = msgspec.json.Encoder().encode


class Inlet(msgspec.Struct, frozen=True):
    """What the webhook works with, made at start."""

    settings: Settings
    keyring: Keyring
    commits: SharedCommit
    rate: TenantRate
    rules: Rules


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The raw event and the job that will promote it are committed."""

    status: Literal["accepted"] = "accepted"
    correlation_id: str


@asgi(event.PATH, copy_scope=False)
async def resolved_ticket(scope: HTTPScope, receive: Receive, send: Send) -> None:
    """Take in one resolved ticket."""
    current = request_record.of_webhook(scope["headers"])
    inlet: Inlet = scope["litestar_app"].state.inlet
    try:
        await accept(scope, current, inlet, receive)
    except Refusal as refusal:
        await problems.send(current, refusal, send)
    except Exception as error:  # noqa: BLE001  (whatever it is: it is in the log, and never in the answer)
        await problems.send(current, problems.unforeseen(error), send)
    else:
        accepted = _encode(Accepted(correlation_id=current.correlation_id))
        await request_record.answer(current, 202, [(b"content-type", b"application/json")], accepted, send)


async def accept(scope: HTTPScope, current: Exchange, inlet: Inlet, receive: Receive) -> None:
    """Commit the event and its job. Raises Refusal."""
    if scope["method"] != "POST":
        raise Refusal(405, "Only POST is allowed here.")
    require_json(current.header(b"content-type"))
    body = await read_body(scope, receive, current.header(b"content-length"), inlet.settings.max_body_bytes)
    tenant_id = read_tenant_id(body, current)
    signed = verify(inlet, current, tenant_id, body)
    current.is_verified = True
    require_allowance(inlet.rate, tenant_id)
    try:
        current.ticket_id = event.check(body, inlet.rules)
    except event.RejectedError as rejected:
        current.ticket_id = rejected.ticket_id
        await append(inlet.commits, current, body, signed, rejected)
        raise Refusal(422, f"The event breaks its schema: {rejected}.", errors=rejected.broken) from None
    await append(inlet.commits, current, body, signed)


def require_json(content_type: bytes) -> None:
    """Refuse what does not call itself JSON in UTF-8."""
    if content_type != b"application/json" and not _JSON.fullmatch(content_type):
        raise Refusal(
            415,
            "Set the header Content-Type to application/json "
            "(ServiceDesk Plus' invokeurl sends text as text/plain unless told).",
        )


async def read_body(scope: HTTPScope, receive: Receive, declared: bytes, limit: int) -> bytes:
    """Give the exact bytes; refuse a body that is longer than `limit`, whether or not it says so.

    Of a body that is cut short on its way (too slow, no HTTP), `scope` says why: see app/server/connection.py.
    """
    if declared.isdigit() and int(declared) > limit:
        raise problems.too_long(limit)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "The body cannot be read: it ended early.")
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise problems.too_long(limit)
        if not message["more_body"]:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        cut_short = scope.get("cut_short")
        if isinstance(cut_short, Refusal):
            raise cut_short


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


def verify(inlet: Inlet, current: Exchange, tenant_id: str, body: bytes) -> str:
    """Give what the inbox keeps of the signature; refuse all else alike, whether tenant, signature or time is wrong."""
    header = current.header(signature.HEADER_BYTES).decode("latin-1")
    secrets = inlet.keyring.secrets_of(tenant_id)
    if tolerance := inlet.settings.signed_timestamp_seconds:
        timestamp = current.header(signature.TIMESTAMP_HEADER_BYTES)
        # Signature first and in any case, so that all refusals take the same time.
        verified = signature.verify(secrets, signature.timed(timestamp, body), header)
        if verified and signature.is_fresh(timestamp, time.time(), tolerance):
            return f"t={timestamp.decode()},{header}"
    elif signature.verify(secrets, body, header):
        return header
    if not inlet.keyring.loaded or tenant_id in inlet.keyring.unreadable:
        raise Refusal(503, "The tenants' secrets cannot be read now; send it again.")
    raise Refusal(401, NOT_SIGNED.format(SIGNED[bool(tolerance)]))


def require_allowance(rate: TenantRate, tenant_id: str) -> None:
    """Refuse what a tenant sends beyond its rate. Once it is verified, so that nobody spends what is another's."""
    if seconds := rate.spend(tenant_id, time.monotonic()):
        raise Refusal(429, "This tenant sends more than it may (TENANT_RATE); send it again.", retry_after=seconds)


async def append(
    commits: SharedCommit, current: Exchange, body: bytes, signed: str, rejected: event.RejectedError | None = None
) -> None:
    """Commit the delivery and its job, or refuse with 503; a sender that hangs up stops nothing."""
    delivery = inbox.Delivery(
        tenant_id=current.tenant_id or "",
        ticket_id=current.ticket_id,
        correlation_id=current.correlation_id,
        traceparent=current.place.traceparent,
        payload=body,
        signature=signed,
        status="rejected" if rejected else "pending",
        error=str(rejected) if rejected else None,
    )
    try:
        current.inbox_id = await commits.append(delivery, current.place)
    except QueueFullError:
        raise Refusal(503, FULL) from None
    except TimeoutError:
        raise Refusal(503, "Postgres is slow to answer; send it again.") from None
    except database.DatabaseError as error:
        cause = database.reason(error)
        raise Refusal(503, "Postgres cannot take the event now; send it again.", cause=cause) from error
