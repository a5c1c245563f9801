"""How do we say no? Every refusal is an RFC 9457 problem, made here and nowhere else."""

import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from app import correlation
from app.event import BrokenRule
from otel import logs

MEDIA_TYPE = "application/problem+json"
FULL = "Too many webhooks are waiting for Postgres; send it again."
RETRY_AFTER = 5  # seconds: longer than a Postgres restart takes, shorter than anybody waits

_logger = logging.getLogger("ticket_inbox.server")

KINDS = {
    400: ("malformed-body", "The request, or the JSON object that is its body, cannot be read"),
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


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused (RFC 9457); `errors` names the members of an event that break their rules."""

    type: str
    title: str
    status: int
    detail: str
    correlation_id: str
    errors: Sequence[BrokenRule] = ()


class Refusal(Exception):  # noqa: N818  (an answer, not an error)
    """A request answered with `status` and `detail`; `cause` is for the log alone.

    `headers` are sent with it, besides Retry-After where `retry_after` (seconds) says when to send it again.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[BrokenRule] = (),
        cause: BaseException | str | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        retry_after: float = 0,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors = status, detail, errors
        self.kind, self.title = KINDS[status]
        self.cause = cause or detail
        waits = math.ceil(retry_after) or (RETRY_AFTER if status == 503 else 0)  # noqa: PLR2004
        self.headers = {**headers, "Retry-After": str(waits)} if waits else dict(headers)


class Answer(msgspec.Struct, frozen=True):
    """What is sent for a refusal."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI has them."""
        return [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]


def answer(refusal: Refusal, correlation_id: str) -> Answer:
    """Build the answer to a refused request, whichever way it is then sent: the one place where that is done."""
    problem = Problem(
        type=f"urn:ticket-inbox:problem:{refusal.kind}",
        title=refusal.title,
        status=refusal.status,
        detail=refusal.detail,
        correlation_id=correlation_id,
        errors=refusal.errors,
    )
    body = msgspec.json.encode(problem)
    about = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), correlation.HEADER: correlation_id}
    return Answer(refusal.status, {**about, **refusal.headers}, body)


def on_wire(answered: Answer, *, stays: bool) -> bytes:
    """Return an answer as HTTP/1.1 has it; the connection `stays` open after it or not."""
    headers = answered.headers if stays else {**answered.headers, "connection": "close"}
    lines = [f"HTTP/1.1 {answered.status} {HTTPStatus(answered.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + answered.body


def too_long(limit: int) -> Refusal:
    """Return the refusal of a body over `limit` bytes."""
    return Refusal(413, f"The body is longer than {limit:,} bytes (MAX_BODY_BYTES).")


def unforeseen(error: Exception) -> Refusal:
    """Return the refusal for an error that nobody foresaw; the log has it, under the correlation id."""
    return Refusal(500, "Send it again later; the log has the reason under this correlation id.", cause=error)


def on_refusal(request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Answer a refusal that a route of Litestar's raised."""
    answered = answer(refusal, correlation.of_headers(request.scope["headers"]))
    return Response(answered.body, status_code=answered.status, media_type=MEDIA_TYPE, headers=answered.headers)


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer 500 for an error that nobody foresaw, and log it."""
    response = on_refusal(request, unforeseen(error))
    correlation_id = response.headers[correlation.HEADER]
    logs.log(_logger, logging.ERROR, "request_failed", correlation_id=correlation_id, error=error)
    return response


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what Litestar refuses by itself: no such path, no such method, a request that it cannot read."""
    status = error.status_code if error.status_code in KINDS else 400
    return on_refusal(request, Refusal(status, error.detail, headers=error.headers or {}))
