"""How do we say no? Every refusal is an RFC 9457 problem, made here and nowhere else."""

import logging
import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Send

from app.event import BrokenRule
from app.webhook import request_record, signature
from app.webhook.request_record import Exchange, Headers
from otel import logs

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "5"  # seconds: longer than a Postgres restart takes, shorter than anybody waits

_logger = logging.getLogger("ticket_inbox.server")

KINDS = {
    400: ("malformed-body", "The body is not a JSON object"),
    401: ("signature", "The signature does not verify"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "The method is not allowed here"),
    408: ("request-timeout", "The request did not arrive in time"),
    413: ("body-too-large", "The body is too large"),
    415: ("content-type", "The content type is not application/json"),
    422: ("invalid-event", "The event breaks its schema"),
    429: ("rate-limit", "The tenant sends more than it may"),
    431: ("header-too-large", "The request's line and headers are too large"),
    500: ("unforeseen", "Something went wrong on our side"),
    503: ("unavailable", "The event cannot be taken now"),
}
HEADERS = {
    401: {"WWW-Authenticate": f'HMAC-SHA256 header="{signature.HEADER}"'},
    503: {"Retry-After": RETRY_AFTER},
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused (RFC 9457); `errors` names the members of an event that break their rules."""

    type: str
    title: str
    status: int
    detail: str
    correlation_id: str
    errors: Sequence[BrokenRule] = ()


class Refusal(Exception):  # noqa: N818  (an answer, not an error)
    """A request answered with `status` and `detail`; `cause` is for the log alone, `retry_after` in seconds."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[BrokenRule] = (),
        cause: BaseException | str | None = None,
        retry_after: float = 0,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.cause = cause or detail
        self._retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Give the headers that go with what the answer says."""
        own = {"Retry-After": str(math.ceil(self._retry_after))} if self._retry_after else {}
        return HEADERS.get(self.status, {}) | own

    def problem(self, correlation_id: str) -> Problem:
        """Give what the answer says."""
        slug, title = KINDS[self.status]
        kind = f"urn:ticket-inbox:problem:{slug}"
        return Problem(kind, title, self.status, self.detail, correlation_id, self.errors)


async def send(current: Exchange, refusal: Refusal, send: Send) -> None:
    """Answer a webhook that is refused."""
    headers, body = answer(current, refusal)
    await request_record.answer(current, refusal.status, headers, body, send)


def answer(current: Exchange, refusal: Refusal) -> tuple[Headers, bytes]:
    """Give the answer to a webhook that is refused, and note why it is."""
    current.kind, current.error = KINDS[refusal.status][0], refusal.cause
    headers = [(b"content-type", MEDIA_TYPE.encode())]
    if refusal.status == 405:  # noqa: PLR2004
        headers.append((b"allow", b"POST"))
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    return headers, msgspec.json.encode(refusal.problem(current.correlation_id))


def too_long(limit: int) -> Refusal:
    """Give the refusal of a body over `limit` bytes."""
    return Refusal(413, f"The body is longer than {limit:,} bytes (MAX_BODY_BYTES).")


def unread(refusal: Refusal, correlation_id: str) -> bytes:
    """Give the whole answer to a request that never reached a route, the last of its connection; log its line."""
    told = {"correlation_id": correlation_id, "status": refusal.status, "error": refusal.cause}
    logs.log(_logger, logging.WARNING, "request_refused", **told)
    return whole(refusal, correlation_id, stays=False)


def whole(refusal: Refusal, correlation_id: str, *, stays: bool) -> bytes:
    """Give an answer as it goes over the wire; the connection `stays` open after it or not."""
    body = msgspec.json.encode(refusal.problem(correlation_id))
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": len(body),
        request_record.HEADER: correlation_id,
        **({} if stays else {"connection": "close"}),
        **refusal.headers,
    }
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def unforeseen(error: Exception) -> Refusal:
    """Give the answer to what nobody foresaw; what happened is in the log, under the correlation id."""
    return Refusal(500, "Send it again later; the log has the reason under this correlation id.", cause=error)


def on_refusal(request: Request[Any, Any, Any], refusal: Refusal) -> Response[Problem]:
    """Answer a refusal of any other route."""
    correlation_id = request_record.correlation_id_of(request.headers.get(request_record.HEADER, "").encode("latin-1"))
    headers = refusal.headers | {request_record.HEADER: correlation_id}
    problem = refusal.problem(correlation_id)
    return Response(problem, status_code=refusal.status, media_type=MEDIA_TYPE, headers=headers)


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer 500 for any other route, and log what happened."""
    response = on_refusal(request, unforeseen(error))
    correlation_id = response.headers[request_record.HEADER]
    logs.log(_logger, logging.ERROR, "request_failed", correlation_id=correlation_id, error=error)
    return response


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """Answer what Litestar refuses by itself: no such path, no such method, a request it cannot read."""
    status = error.status_code if error.status_code in KINDS else 400
    response = on_refusal(request, Refusal(status, error.detail))
    response.headers.update(error.headers or {})
    return response
