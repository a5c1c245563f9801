"""How is a webhook answered? Verify, append, 202: `accept` reads top to bottom like the contract.

An ASGI handler within Litestar's routing: in a profile, what Litestar does for a handler with arguments and a return
value took about as long as all that is done here (docs/decisions/0018).
"""

import re
import time
from collections.abc import Mapping
from typing import Literal

import msgspec
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Send

from app import correlation, event
from app import delivery as deliveries
from app.webhook import problems, request_record, signature
from app.webhook.dependencies import Dependencies
from app.webhook.group_commit import NotEnabledError, QueueFullError
from app.webhook.kinds import Kind
from app.webhook.problems import Refusal
from app.webhook.request_record import RequestRecord
from app.webhook.signature_counts import why_not_signed
from app.webhook.tenant_rate import TenantRate
from db import failures, inbox

_UTF8 = rb'charset=("utf-?8"|utf-?8)[ \t]*'
_JSON = re.compile(rb"application/json[ \t]*(;[ \t]*(" + _UTF8 + rb")?)?", re.ASCII | re.IGNORECASE)
ALLOWED = "OPTIONS, POST"
NOT_SIGNED = (
    f"The signature in the header {signature.HEADER} does not verify: it must be the HMAC-SHA256 "
    "of {}, keyed by the secret of the tenant that the body names."
)
SIGNED = (
    "the exact bytes of the body",
    f"the header {signature.TIMESTAMP_HEADER} (seconds since 1970, now), a full stop, and the exact bytes of the body",
)
JSON = (
    "application/json, with or without ; charset=utf-8 "
    "(ServiceDesk Plus' invokeurl sends text as text/plain unless its headers name another type)"
)
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """One webhook as it comes in: its scope and body by ASGI, and the first header of each name, in lower case."""

    scope: HTTPScope
    receive: Receive
    headers: Mapping[bytes, bytes]

    def header(self, name: bytes) -> bytes:
        """Return the header `name`; an empty one where there is none."""
        return self.headers.get(name, b"")


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The raw event and the job that will promote it are committed."""

    status: Literal["accepted"] = "accepted"
    correlation_id: str


def route(kind: Kind) -> ASGIRouteHandler:
    """Return the handler that takes in webhooks of a kind."""

    @asgi(kind.path, copy_scope=False)
    async def answer(scope: HTTPScope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            await describe(scope, send)
            return
        headers = request_record.first_of_each(scope["headers"])
        record = request_record.begin(kind.path, headers)
        dependencies: Dependencies = scope["litestar_app"].state.dependencies
        try:
            await accept(kind, Request(scope, receive, headers), dependencies, record)
        except Refusal as refusal:
            await refuse(refusal, record, send)
        except Exception as error:  # noqa: BLE001  (whatever it is: the log has it, and the answer never)
            await refuse(problems.unforeseen(error), record, send)
        else:
            await confirm(record, send)

    return answer


async def describe(scope: HTTPScope, send: Send) -> None:
    """Answer which methods are allowed here: that is no webhook, and leaves no record."""
    correlation_id = correlation.of_headers(scope["headers"]).encode()
    headers = [(b"allow", ALLOWED.encode()), (correlation.HEADER_BYTES, correlation_id)]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def confirm(record: RequestRecord, send: Send) -> None:
    """Answer a webhook that is committed."""
    body = _encode(Accepted(correlation_id=record.origin.correlation_id))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (correlation.HEADER_BYTES, record.origin.correlation_id.encode()),
    ]
    await respond(202, headers, body, record, send)


async def refuse(refusal: Refusal, record: RequestRecord, send: Send) -> None:
    """Answer a webhook that is refused, and record why."""
    record.kind, record.error = refusal.kind, refusal.cause
    answered = problems.answer(refusal, record.origin.correlation_id)
    await respond(answered.status, answered.raw_headers, answered.body, record, send)


async def respond(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, record: RequestRecord, send: Send
) -> None:
    """Send the answer, and end the record."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
    request_record.end(record, status)


async def accept(kind: Kind, request: Request, dependencies: Dependencies, record: RequestRecord) -> None:
    """Commit the event and its job, and note in `record` what becomes known. Raises Refusal."""
    require_post(request.scope["method"])
    require_json(request.header(b"content-type"))
    body = await read_body(request, dependencies.settings.max_body_bytes)
    tenant_id = read_tenant_id(body)
    record.tenant_id = tenant_id[:100]
    signed = verify(request, dependencies, tenant_id, body)
    record.is_verified = True
    require_allowance(dependencies.rate, tenant_id)
    parsed = kind.check(body, dependencies.rules)
    record.ticket_id, record.ignored = parsed.ticket_id, parsed.ignored or None
    delivery = deliveries.build(kind.source, body, parsed, tenant_id, record.origin, signed)
    record.inbox_id = await append(dependencies, delivery, record.origin)
    if parsed.broken:
        raise Refusal(422, f"The event breaks its schema: {parsed.error}.", errors=parsed.broken)


def require_post(method: str) -> None:
    """Refuse every other method."""
    if method != "POST":
        raise Refusal(405, "Only POST is allowed here.", headers={"Allow": ALLOWED})


def is_json(content_type: bytes) -> bool:
    """Return whether a content type is JSON in UTF-8."""
    return content_type == b"application/json" or _JSON.fullmatch(content_type) is not None


def require_json(content_type: bytes) -> None:
    """Refuse what does not call itself JSON in UTF-8."""
    if not is_json(content_type):
        raise Refusal(415, f"{why_not_json(content_type)} Set the header Content-Type to {JSON}.")


def why_not_json(content_type: bytes) -> str:
    """Return what is wrong with a content type."""
    media_type, _, parameters = content_type.strip().lower().partition(b";")
    if not media_type:
        return "The request has no Content-Type."
    if media_type.strip() != b"application/json":
        return "The request's Content-Type is not application/json."
    if parameters.strip().startswith(b"charset="):
        return "The request's Content-Type, application/json, names another charset than utf-8, or more than a charset."
    return "The request's Content-Type, application/json, has a parameter that is not a charset."


async def read_body(request: Request, limit: int) -> bytes:
    """Return the exact bytes; refuse a body that is longer than `limit`, whether or not it declares its length.

    Where a body is cut short on its way (too slow, not HTTP), the scope says why: see app/server/connection.py.
    """
    declared = request.header(b"content-length")
    if declared.isdigit() and int(declared) > limit:
        raise problems.too_long(limit)
    parts, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise Refusal(400, "The body cannot be read: it ended early.")
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise problems.too_long(limit)
        if not message["more_body"]:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        cut_short = request.scope.get("cut_short")
        if isinstance(cut_short, Refusal):
            raise cut_short


def read_tenant_id(body: bytes) -> str:
    """Return the tenant that the body names; it is not verified yet."""
    try:
        return event.tenant_of(body)
    except event.MalformedError as malformed:
        raise Refusal(400, f"The body must be a JSON object in UTF-8, but {malformed}.") from None
    except event.RejectedError as rejected:
        raise Refusal(422, f"Nothing to verify the body with: {rejected}.", errors=rejected.broken) from None


def verify(request: Request, dependencies: Dependencies, tenant_id: str, body: bytes) -> str:
    """Return what the inbox keeps of the signature; refuse alike whether tenant, signature or time is wrong."""
    header = request.header(signature.HEADER_BYTES).decode("latin-1")
    tolerance = dependencies.settings.signed_timestamp_seconds
    timestamp = request.header(signature.TIMESTAMP_HEADER_BYTES) if tolerance else b""
    signed = signature.timed(timestamp, body) if tolerance else body
    # Signature and time in any case, so that all refusals take the same time.
    secret = signature.signer(dependencies.keyring.secrets_of(tenant_id), signed, header)
    is_timely = not tolerance or signature.is_fresh(timestamp, time.time(), tolerance)
    if secret is not None and is_timely:
        dependencies.signatures.verified(tenant_id, by_previous=secret > 0)
        return f"t={timestamp.decode()},{header}" if tolerance else header
    if not dependencies.keyring.loaded or tenant_id in dependencies.keyring.unreadable:
        raise Refusal(503, "The tenants' secrets cannot be read now; send it again.")
    dependencies.signatures.failed(tenant_id, why_not_signed(header, is_timely=is_timely))
    raise not_signed(dependencies)


def not_signed(dependencies: Dependencies) -> Refusal:
    """Return the refusal of what does not verify: the same bytes whatever is wrong."""
    tolerance = dependencies.settings.signed_timestamp_seconds
    return Refusal(401, NOT_SIGNED.format(SIGNED[bool(tolerance)]), headers=signature.CHALLENGE)


def require_allowance(rate: TenantRate, tenant_id: str) -> None:
    """Refuse what a tenant sends beyond its rate: after it is verified, so that no sender spends another tenant's."""
    if seconds := rate.spend(tenant_id, time.monotonic()):
        raise Refusal(429, "This tenant sends more than it may (TENANT_RATE); send it again.", retry_after=seconds)


async def append(dependencies: Dependencies, delivery: inbox.Delivery, origin: deliveries.Origin) -> int:
    """Commit the delivery and its job, and return its inbox id; a sender that hangs up stops nothing."""
    try:
        return await dependencies.commits.append(delivery, origin.position)
    except NotEnabledError:  # this server has not read that yet: the answer is what it will be
        raise not_signed(dependencies) from None
    except QueueFullError:
        raise Refusal(503, problems.FULL) from None
    except TimeoutError:
        raise Refusal(503, "Postgres is slow to answer; send it again.") from None
    except failures.DatabaseError as error:
        cause = failures.reason(error)
        raise Refusal(503, "Postgres cannot take the event now; send it again.", cause=cause) from error
